import Billing
import JSONText
import LogAudit
import Metering
import PostgresStore
import Recount

/// `GET /v1/events/{id}` shows what happened to one event.
enum EventEndpoint {
  static func answer(_ request: APIRequest, _ readings: LogReadings) async throws -> APIAnswer {
    var fields = try request.query
    let source = fields.text("source", atMost: Limits.identityBytes)
    let quotes = fields.choice("numbers", of: ["string", "number"]) == "string"
    try fields.finish()
    guard let id = request.parameters["id"], (1...Limits.identityBytes).contains(id.utf8.count)
    else { throw Problem.notFound("event") }
    let found = try await readings.run(for: request.caller) { connection, reader in
      let search = try EventSearch(
        connection, reader, group: LogWatch.group, topic: LogWatch.topic, id: id, source: source,
        settings: readings.recountSettings, offsets: LogReadings.mostOffsets,
        deadline: .now + .seconds(LogReadings.seconds))
      return (search.sightings, search.searched, search.wasCutOff)
    }
    let sightings = try await visible(found.0, request)
    return APIAnswer.object { json in
      json.member("id", id)
      json.member("status", status(sightings))
      json.name("events")
      json.beginArray()
      for sighting in sightings { write(sighting, quotes, to: &json) }
      json.endArray()
      json.name("searched")
      json.beginArray()
      for stretch in found.1 where stretch.from < stretch.to {
        json.beginObject()
        json.member("log_epoch", Int64(stretch.logEpoch))
        json.member("partition", Int64(stretch.partition))
        json.member("first_offset", stretch.from)
        json.member("last_offset", stretch.to - 1)
        json.endObject()
      }
      json.endArray()
      json.member("is_complete", !found.2)
    }
  }

  /// A customer's token sees events of that customer's licenses.
  private static func visible(
    _ sightings: [EventSearch.Sighting], _ request: APIRequest
  ) async throws -> [EventSearch.Sighting] {
    guard let own = request.caller.customerID else { return sightings }
    let licenses = sightings.compactMap(\.event).map { Identifier($0.subject) }
    let owners = try await request.read { try UsageStore($0).customers(of: licenses) }
    let owned = Set(owners.filter { $0.customer == own }.map(\.license))
    return sightings.filter { $0.event.map { owned.contains(Identifier($0.subject)) } ?? false }
  }

  /// The best outcome among the sightings.
  private static func status(_ sightings: [EventSearch.Sighting]) -> String {
    let all = sightings.map { name($0.outcome) }
    return ["counted", "pending", "duplicate", "dead_letter"].first { all.contains($0) }
      ?? "not_found"
  }

  private static func name(_ outcome: EventSearch.Outcome) -> String {
    switch outcome {
    case .counted: "counted"
    case .duplicate: "duplicate"
    case .deadLetter: "dead_letter"
    case .pending: "pending"
    }
  }

  private static func write(
    _ sighting: EventSearch.Sighting, _ quotesQuantities: Bool, to json: inout JSONWriter
  ) {
    let event = sighting.event
    json.beginObject()
    json.member("status", name(sighting.outcome))
    json.member("log_epoch", Int64(sighting.logEpoch))
    json.member("partition", Int64(sighting.partition))
    json.member("offset", sighting.offset)
    let received = sighting.recordTime < 0 ? nil : sighting.recordTime
    json.member("received_at", cell: .optionalTime(received))
    json.member("license_id", cell: .optional(event?.subject))
    json.member("source", cell: .optional(event?.source))
    json.member("meter", cell: .optional(event?.meter))
    json.member("time", cell: .optionalTime(event?.timeMilliseconds))
    json.member(
      "quantity", cell: .optionalQuantity(event?.quantity), quotesQuantities: quotesQuantities)
    json.member("domain", cell: .optional(event?.domain))
    json.member("feature", cell: .optional(event?.feature))
    json.member("traceparent", cell: .optional(event?.traceparent))
    switch sighting.outcome {
    case .counted, .pending: break
    case .duplicate(let cause, let original):
      json.member("duplicate_by", cause.rawValue)
      json.member("duplicate_of_offset", cell: .optional(original))
    case .deadLetter(let reason, let detail):
      json.member("reason", reason)
      json.member("detail", detail)
    }
    json.endObject()
  }
}
