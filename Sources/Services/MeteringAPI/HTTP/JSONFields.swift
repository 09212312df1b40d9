import Billing
import HTTPTypes
import JSONText
import Metering

/// The members of a body that is a JSON object, read one by one and then finished, as `Fields` are.
struct JSONFields: Sendable {
  private let members: [JSONMember]
  private var asked: Set<Identifier> = []
  private(set) var errors: [Problem.Blame] = []

  /// - Throws: `Problem` if the bytes are not a JSON object, or if a name occurs twice.
  init(_ bytes: [UInt8]) throws(Problem) {
    let value: JSONValue
    do {
      value = try JSONReader.parse(bytes, maximumValues: 20_000)
    } catch {
      throw Problem(.badRequest, "not_json", "The body must be JSON: \(error).")
    }
    guard let members = value.members else {
      throw Problem(.badRequest, "not_an_object", "The body must be a JSON object.")
    }
    if let name = members.repeatedName {
      throw Problem.badParameter(String(name.prefix(100)), "It must be given once.")
    }
    self.members = members
  }

  mutating func blame(_ name: String, _ detail: String) {
    errors.append(Problem.Blame(parameter: name, detail: detail))
  }

  /// Whether the member exists. It may be `null`.
  func has(_ name: String) -> Bool { members[name] != nil }

  /// The value of the member, or nil if it is absent.
  mutating func value(_ name: String) -> JSONValue? {
    asked.insert(Identifier(name))
    return members[name]
  }

  /// A string of at most `bytes` bytes without NUL. Returns nil if the member is absent or `null`.
  mutating func text(_ name: String, atMost bytes: Int = 1_000) -> String? {
    guard let value = present(name) else { return nil }
    guard let text = value.text, (1...bytes).contains(text.utf8.count), !text.utf8.contains(0)
    else {
      blame(name, "It must be a string of 1 to \(bytes) bytes without NUL.")
      return nil
    }
    return text
  }

  /// A text that a person reads, such as a reason. It must not be blank.
  mutating func prose(_ name: String, atMost bytes: Int = 1_000) -> String? {
    guard let text = text(name, atMost: bytes) else { return nil }
    guard text.isBlank else { return text }
    blame(name, "It must not be blank.")
    return nil
  }

  mutating func identifier(_ name: String) -> Identifier? {
    text(name, atMost: Limits.subjectBytes).map(Identifier.init(_:))
  }

  mutating func texts(_ name: String, atMost count: Int, bytes: Int = 1_000) -> [String]? {
    guard let value = present(name) else { return nil }
    let texts = value.elements?.compactMap(\.text)
    guard let texts, texts.count == value.elements?.count, texts.count <= count,
      texts.allSatisfy({ (1...bytes).contains($0.utf8.count) && !$0.utf8.contains(0) })
    else {
      blame(name, "It must be a list of at most \(count) strings of 1 to \(bytes) bytes.")
      return nil
    }
    return texts
  }

  /// An integer in any spelling. `5e4`, `50000.0` and `50000` are the same number.
  mutating func integer(_ name: String, in range: ClosedRange<Int64>) -> Int64? {
    guard let value = present(name) else { return nil }
    guard let number = value.number?.integer, range.contains(number) else {
      blame(name, "It must be an integer from \(range.lowerBound) to \(range.upperBound).")
      return nil
    }
    return number
  }

  mutating func boolean(_ name: String) -> Bool? {
    guard let value = present(name) else { return nil }
    if let boolean = value.boolean { return boolean }
    blame(name, "It must be true or false.")
    return nil
  }

  mutating func choice<T: RawRepresentable & CaseIterable>(
    _ name: String, _ type: T.Type = T.self
  ) -> T? where T.RawValue == String {
    guard let value = present(name) else { return nil }
    if let found = value.text.flatMap(T.init(rawValue:)) { return found }
    blame(name, "It must be one of: \(T.allCases.map(\.rawValue).joined(separator: ", ")).")
    return nil
  }

  /// The value of an RFC 3339 time, in milliseconds since 1970.
  mutating func time(_ name: String) -> Int64? {
    guard let value = present(name) else { return nil }
    if let time = value.text.flatMap(TimeText.read) { return time }
    blame(name, "It must be an RFC 3339 time such as 2026-11-01T00:00:00Z.")
    return nil
  }

  /// Records an error if a required member is absent. Call it with the accessor's value.
  mutating func required<T>(_ name: String, _ value: T?) -> T? {
    if value == nil, !errors.contains(where: { $0.parameter == name }) {
      blame(name, "It is required.")
    }
    return value
  }

  /// - Throws: a 400 that names every member that is wrong or unknown.
  mutating func finish() throws(Problem) {
    for member in members {
      let name = String(decoding: member.name.bytes, as: UTF8.self)
      guard !asked.contains(Identifier(name)) else { continue }
      let known = asked.map(\.string).sorted().joined(separator: ", ")
      blame(String(name.prefix(100)), "It is unknown here. The known members are: \(known).")
    }
    if !errors.isEmpty { throw Problem.badParameters(Array(errors.prefix(50))) }
  }

  private mutating func present(_ name: String) -> JSONValue? {
    guard let value = value(name), value != .null else { return nil }
    return value
  }
}
