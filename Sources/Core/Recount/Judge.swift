import JSONText
import Metering

/// Decides what a record of `license.usage.v1` is, as docs/event-validation.md specifies.
///
/// The numbers in the comments are the numbers of the checks there. The code runs in their order,
/// because the first check that fails names the reason.
package func judge(_ record: LogRecord, _ settings: RecountSettings) -> EventVerdict {
  var producerAndSequence: (producer: String, sequence: Int64)?
  do throws(Rejection) {
    let envelope = try readEnvelope(record.value, &producerAndSequence)
    if envelope.isReport {
      return .report(try readReport(envelope, key: record.key))
    }
    return .usage(try readUsage(envelope, record, settings))
  } catch {
    return .rejected(
      reason: error.reason.rawValue, detail: error.detail,
      producer: producerAndSequence.map { Array($0.producer.utf8) },
      sequence: producerAndSequence?.sequence)
  }
}

/// The words that dead letters are sorted by.
private enum Reason: String {
  case tombstone
  case overSize = "over_size"
  case notJSON = "not_json"
  case notCloudEvent = "not_cloudevent"
  case nulInText = "nul_in_text"
  case badText = "bad_text"
  case wrongType = "wrong_type"
  case badSequence = "bad_sequence"
  case noSubject = "no_subject"
  case badTime = "bad_time"
  case badData = "bad_data"
  case badMeter = "bad_meter"
  case badQuantity = "bad_quantity"
  case keyMismatch = "key_mismatch"
  case tooFarAhead = "too_far_ahead"
  case tooOld = "too_old"
}

private struct Rejection: Error {
  var reason: Reason
  var detail: String

  init(_ reason: Reason, _ detail: String) {
    self.reason = reason
    self.detail = detail
  }
}

private struct Envelope {
  var members: [JSONMember]
  var id: String
  var source: String
  var isReport: Bool
  var producer: String?
}

// MARK: The record and the envelope

/// Checks 1 to 11.
private func readEnvelope(
  _ value: [UInt8]?, _ producerAndSequence: inout (producer: String, sequence: Int64)?
) throws(Rejection) -> Envelope {
  // 1, 2
  guard let value else { throw Rejection(.tombstone, "the record has no value") }
  guard value.count <= 65_536 else {
    throw Rejection(.overSize, "the value has \(value.count) bytes, more than 65536")
  }
  // 3, 4
  let json: JSONValue
  do throws(JSONError) {
    json = try JSONReader.parse(value)
  } catch {
    throw Rejection(.notJSON, error.description)
  }
  guard case .object(let members) = json else {
    throw Rejection(.notCloudEvent, "the JSON text is not an object")
  }
  // From here on the ledger knows the record's producer, even if a later check fails.
  producerAndSequence = readProducerAndSequence(members)
  // 5
  guard case .string(let version) = members["specversion"], version.equals("1.0") else {
    throw Rejection(.notCloudEvent, "specversion is not \"1.0\"")
  }
  // 6, for all three before 7 for any
  let names = ["id", "source", "type"]
  var strings: [JSONString] = []
  for name in names {
    guard case .string(let string) = members[name] else {
      throw Rejection(.notCloudEvent, "\(name) is not a string")
    }
    strings.append(string)
  }
  // 7
  var texts: [String] = []
  for (name, string) in zip(names, strings) {
    texts.append(try requireText(string, name))
  }
  // 8
  for (name, text) in zip(names, texts) where text.isEmpty {
    throw Rejection(.notCloudEvent, "\(name) is empty")
  }
  let (id, source, type) = (texts[0], texts[1], texts[2])
  // 9
  try refuseOver(1024, id, "id")
  try refuseOver(1024, source, "source")
  // 10
  let isReport = ExactText(type) == "license.producer.reported"
  guard isReport || ExactText(type) == "license.usage.recorded" else {
    throw Rejection(.wrongType, "type is not one that is read from this topic")
  }
  // 11
  let producer = try readProducer(members)
  return Envelope(
    members: members, id: id, source: source, isReport: isReport, producer: producer)
}

/// Check 11.
private func readProducer(_ members: [JSONMember]) throws(Rejection) -> String? {
  guard let value = present(members["producer"]) else { return nil }
  let producer = try readText(value, "producer", orElse: .badSequence)
  guard (1...256).contains(producer.utf8.count) else {
    throw Rejection(.badSequence, "producer does not have 1 to 256 bytes")
  }
  return producer
}

/// Check 14.
private func readSequence(_ members: [JSONMember]) throws(Rejection) -> Int64? {
  guard let value = present(members["sequence"]) else { return nil }
  return try readInteger(value, "sequence", upTo: .max, orElse: .badSequence)
}

/// The producer and the sequence of a dead letter for the ledger, if both are present and valid.
private func readProducerAndSequence(
  _ members: [JSONMember]
) -> (producer: String, sequence: Int64)? {
  do throws(Rejection) {
    guard let producer = try readProducer(members), let sequence = try readSequence(members) else {
      return nil
    }
    return (producer, sequence)
  } catch {
    return nil  // The checks themselves report what is wrong.
  }
}

// MARK: Usage events

/// Checks 12 to 22 of usage events.
private func readUsage(
  _ envelope: Envelope, _ record: LogRecord, _ settings: RecountSettings
) throws(Rejection) -> UsageEvent {
  let members = envelope.members
  // 12, 13
  let subject = try readText(members["subject"], "subject", orElse: .noSubject)
  guard !subject.isEmpty else { throw Rejection(.noSubject, "subject is empty") }
  try refuseOver(512, subject, "subject")
  // 14
  let sequence = try readSequence(members)
  // 15
  guard case .string(let timeString) = members["time"],
    let time = millisecondsFromRFC3339(timeString.bytes)
  else { throw Rejection(.badTime, "time is not an RFC 3339 time") }
  // 16
  var importBatch: String?
  if let value = present(members["import"]) {
    let batch = try readText(value, "import", orElse: .badData)
    guard (1...256).contains(batch.utf8.count) else {
      throw Rejection(.badData, "import does not have 1 to 256 bytes")
    }
    importBatch = batch
  }
  // 17
  let data = try readData(members) ?? []
  // 18, 19
  let meter = try readMeter(data["meter"])
  var quantity: Int64 = 1
  if let value = data["quantity"] {
    quantity = try readInteger(
      value, "data.quantity", upTo: settings.maxQuantity, orElse: .badQuantity)
  }
  // 20
  let domain = try readDimension(data["domain"], "data.domain")
  let feature = try readDimension(data["feature"], "data.feature")
  // 21
  try requireKey(record.key, equals: subject, "subject")
  // 22
  let place = LogPosition(partition: record.partition, offset: record.offset)
  let batch = settings.refusedForAge.contains(place) ? nil : importBatch
  try checkTime(time, batch, against: record.timestamp, settings)
  return UsageEvent(
    id: envelope.id, source: envelope.source, subject: subject, producer: envelope.producer,
    sequence: sequence, timeMilliseconds: time, importBatch: importBatch, meter: meter,
    quantity: quantity, domain: domain, feature: feature,
    traceparent: readTraceparent(members["traceparent"]))
}

/// Check 18. The meter is absent, or it matches `[a-z][a-z0-9_]{0,63}`.
private func readMeter(_ value: JSONValue?) throws(Rejection) -> String {
  guard let value else { return "api_calls" }
  let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
  let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
  guard case .string(let string) = value,
    (1...64).contains(string.bytes.count),
    letters.contains(string.bytes[0]),
    string.bytes.allSatisfy({
      letters.contains($0) || digits.contains($0) || $0 == UInt8(ascii: "_")
    })
  else { throw Rejection(.badMeter, "data.meter is not a meter's name") }
  return String(decoding: string.bytes, as: UTF8.self)
}

/// Check 20. The empty string counts as absent. The value is cut after the last whole character
/// (Unicode scalar) within 256 bytes.
private func readDimension(_ value: JSONValue?, _ name: String) throws(Rejection) -> String? {
  guard let value = present(value) else { return nil }
  let text = try readText(value, name, orElse: .badData)
  var cut = String.UnicodeScalarView()
  var bytes = 0
  for scalar in text.unicodeScalars {
    bytes += scalar.utf8.count
    if bytes > 256 {
      break
    }
    cut.append(scalar)
  }
  return cut.isEmpty ? nil : String(cut)
}

/// This is not a check, because an invalid `traceparent` is ignored. It begins with version, trace
/// id, parent id and flags in lower-case hexadecimal, with dashes between them. Only a later
/// version may have more text after them.
private func readTraceparent(_ value: JSONValue?) -> String? {
  guard case .string(let string)? = value, !string.hasLoneSurrogate, !string.bytes.contains(0)
  else { return nil }
  let parts = string.bytes.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
  guard parts.count >= 4, zip(parts, [2, 32, 16, 2]).allSatisfy({ $0.count == $1 }),
    parts[..<4].joined().allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
  else { return nil }
  let texts = parts[..<4].map { String(decoding: $0, as: UTF8.self) }
  let isKnown = texts[0] == "00"
  guard texts[0] != "ff", !isKnown || parts.count == 4,
    texts[1].contains(where: { $0 != "0" }), texts[2].contains(where: { $0 != "0" }),
    let flags = UInt8(texts[3], radix: 16)
  else { return nil }
  // The known flags are sampled and, in version 00, a random id.
  return "00-\(texts[1])-\(texts[2])-0\(flags % (isKnown ? 4 : 2))"
}

/// Check 22.
private func checkTime(
  _ time: Int64, _ importBatch: String?, against timestamp: Int64, _ settings: RecountSettings
) throws(Rejection) {
  if timestamp < 0 {
    return
  }
  // The hour is taken from the event's time, which is bounded, because adding it to a timestamp
  // near 2^63 would overflow.
  if time - 3_600_000 > timestamp {
    throw Rejection(.tooFarAhead, "time is more than an hour ahead of the record's timestamp")
  }
  if time < timestamp - settings.maxEventAgeMilliseconds {
    if let importBatch, let oldest = settings.importBatches[ExactText(importBatch)],
      oldest <= time
    {
      return
    }
    throw Rejection(.tooOld, "time is older than the record's timestamp allows")
  }
}

// MARK: Producer reports

/// Checks 12 to 16 of producer reports.
private func readReport(
  _ envelope: Envelope, key: [UInt8]?
) throws(Rejection) -> ProducerReport {
  // 12
  guard let producer = envelope.producer else {
    throw Rejection(.badSequence, "the report has no producer")
  }
  // 13
  guard let data = try readData(envelope.members) else {
    throw Rejection(.badData, "data is not an object")
  }
  // 14
  let accepted = try readInteger(data["accepted"], "data.accepted", upTo: .max, orElse: .badData)
  let pending = try readInteger(data["pending"], "data.pending", upTo: .max, orElse: .badData)
  let dropped = try readInteger(data["dropped"], "data.dropped", upTo: .max, orElse: .badData)
  // 15
  var isFinal = false
  if let value = data["final"] {
    guard case .bool(let flag) = value else {
      throw Rejection(.badData, "data.final is neither true nor false")
    }
    isFinal = flag
  }
  // 16
  try requireKey(key, equals: producer, "producer")
  return ProducerReport(
    producer: producer, accepted: accepted, pending: pending, dropped: dropped, isFinal: isFinal)
}

// MARK: Members

/// An optional member whose value is null is absent.
private func present(_ value: JSONValue?) -> JSONValue? {
  value == .null ? nil : value
}

/// The members of `data` or of the object in `data_base64`. Nil if the event has neither.
private func readData(_ members: [JSONMember]) throws(Rejection) -> [JSONMember]? {
  guard let value = present(members["data_base64"]) else {
    guard let value = members["data"] else { return nil }
    return try readObject(value, "data")
  }
  guard members["data"] == nil else {
    throw Rejection(.badData, "both data and data_base64 are present")
  }
  let encoded = try readText(value, "data_base64", orElse: .badData)
  if let type = present(members["datacontenttype"]) {
    let mediaType = try readText(type, "datacontenttype", orElse: .badData)
    guard declaresJSON(mediaType) else {
      throw Rejection(.badData, "data_base64 is present, but datacontenttype is not JSON")
    }
  }
  guard let bytes = bytesFromBase64(encoded) else {
    throw Rejection(.badData, "data_base64 is not base64")
  }
  guard case .object(let data)? = try? JSONReader.parse(bytes) else {  // Any reason will do.
    throw Rejection(.badData, "data_base64 does not contain a JSON object")
  }
  return data
}

private func readObject(_ value: JSONValue, _ name: String) throws(Rejection) -> [JSONMember] {
  guard case .object(let members) = value else {
    throw Rejection(.badData, "\(name) is not an object")
  }
  return members
}

/// Reads a text. If the value is not a string, the reason is `reason`.
private func readText(
  _ value: JSONValue?, _ name: String, orElse reason: Reason
) throws(Rejection) -> String {
  guard case .string(let string) = value else { throw Rejection(reason, "\(name) is not a string") }
  return try requireText(string, name)
}

/// A text is a string without U+0000 and without lone surrogates. U+0000 is checked first.
private func requireText(_ string: JSONString, _ name: String) throws(Rejection) -> String {
  if string.bytes.contains(0) {
    throw Rejection(.nulInText, "\(name) holds U+0000")
  }
  if string.hasLoneSurrogate {
    throw Rejection(.badText, "\(name) contains half of a surrogate pair")
  }
  return String(decoding: string.bytes, as: UTF8.self)
}

private func refuseOver(_ limit: Int, _ text: String, _ name: String) throws(Rejection) {
  guard text.utf8.count <= limit else {
    throw Rejection(.overSize, "\(name) has \(text.utf8.count) bytes, more than \(limit)")
  }
}

/// Reads a number that is written as an integer, `-?(0|[1-9][0-9]*)`, from 0 to `upTo`. `-0` is 0.
private func readInteger(
  _ value: JSONValue?, _ name: String, upTo limit: Int64, orElse reason: Reason
) throws(Rejection) -> Int64 {
  // After the JSON grammar, a number can only fail here by a fraction or an exponent, which `Int64`
  // refuses, or by its size. A number that does not fit into 64 bits is out of range anyway.
  guard case .number(let token) = value, let number = Int64(token), number >= 0, number <= limit
  else { throw Rejection(reason, "\(name) is not an integer from 0 to \(limit)") }
  return number
}

private func requireKey(
  _ key: [UInt8]?, equals text: String, _ name: String
) throws(Rejection) {
  guard let key, key.elementsEqual(text.utf8) else {
    throw Rejection(.keyMismatch, "the record's key is not its \(name)")
  }
}
