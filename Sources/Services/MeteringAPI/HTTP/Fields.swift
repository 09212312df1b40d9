import Billing
import HTTPTypes
import Metering

/// The parameters of a query or of a form, read one by one and then finished.
///
/// Every accessor notes what is wrong and answers as if the parameter were absent. `finish` then
/// refuses the request with all errors, and with the names of unknown parameters.
struct Fields: Sendable {
  private let values: [(name: String, value: String)]
  private var asked: Set<Identifier> = []
  private(set) var errors: [Problem.Blame] = []

  private static let mostValues = 1_000

  /// - Parameter text: `application/x-www-form-urlencoded`, without `?`.
  /// - Throws: `Problem` if an escape is broken, or if a text is not UTF-8 or contains NUL.
  init(urlEncoded text: some StringProtocol) throws(Problem) {
    var values: [(name: String, value: String)] = []
    for part in text.utf8.split(separator: UInt8(ascii: "&")) {
      let sides = part.split(
        separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = Self.text(sides[0]),
        let value = sides.count == 2 ? Self.text(sides[1]) : ""
      else {
        throw Problem(
          .badRequest, "bad_request",
          "The query must be percent-encoded UTF-8 without NUL (RFC 3986).")
      }
      guard values.count < Self.mostValues else {
        throw Problem(
          .badRequest, "bad_request", "A request may have at most \(Self.mostValues) parameters.")
      }
      values.append((name, value))
    }
    self.values = values
  }

  private static func text(_ bytes: some Sequence<UInt8>) -> String? {
    guard let bytes = PercentDecoding.bytes(bytes, plusIsBlank: true), !bytes.contains(0) else {
      return nil
    }
    return String(validating: bytes, as: UTF8.self)
  }

  /// Every parameter with its values, in the order of the request.
  var all: [(name: String, value: String)] { values }

  mutating func blame(_ name: String, _ detail: String) {
    errors.append(Problem.Blame(parameter: name, detail: detail))
  }

  /// The only value of a parameter. An empty value counts as absent.
  mutating func text(_ name: String) -> String? {
    let found = takeAll(name)
    if found.count > 1 {
      blame(name, "It must be given once.")
      return nil
    }
    return found.first.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// The only value of a parameter, with a bound on its bytes.
  mutating func text(_ name: String, atMost bytes: Int) -> String? {
    guard let text = text(name) else { return nil }
    if text.utf8.count > bytes {
      blame(name, "It may have at most \(bytes) bytes.")
      return nil
    }
    return text
  }

  mutating func identifier(_ name: String) -> Identifier? {
    text(name, atMost: Limits.subjectBytes).map(Identifier.init(_:))
  }

  /// All values of a parameter that may be repeated.
  mutating func identifiers(_ name: String, atMost count: Int = 100) -> [Identifier] {
    let found = takeAll(name)
    if found.count > count {
      blame(name, "It may be given at most \(count) times.")
      return []
    }
    for value in found where value.isEmpty || value.utf8.count > Limits.subjectBytes {
      blame(name, "Each value must have 1 to \(Limits.subjectBytes) bytes.")
      return []
    }
    return found.map(Identifier.init(_:))
  }

  /// The only value of a parameter, which must be a valid name of a meter.
  mutating func meter(_ name: String) -> Identifier? {
    let found = identifier(name)
    return found.flatMap { areMeters([$0], name) ? $0 : nil }
  }

  /// All values of a parameter that may be repeated. Each must be a valid name of a meter.
  mutating func meters(_ name: String) -> [Identifier] {
    let found = identifiers(name)
    return areMeters(found, name) ? found : []
  }

  private mutating func areMeters(_ values: [Identifier], _ name: String) -> Bool {
    if values.allSatisfy({ MeterName.isValid($0.string) }) { return true }
    blame(name, "It must match [a-z][a-z0-9_]{0,63}.")
    return false
  }

  mutating func integer(_ name: String, in range: ClosedRange<Int64>) -> Int64? {
    guard let text = text(name) else { return nil }
    guard text.first != "+", let value = Int64(text), range.contains(value) else {
      blame(name, "It must be an integer from \(range.lowerBound) to \(range.upperBound).")
      return nil
    }
    return value
  }

  mutating func boolean(_ name: String) -> Bool? {
    switch text(name) {
    case nil: return nil
    case "true": return true
    case "false": return false
    default:
      blame(name, "It must be true or false.")
      return nil
    }
  }

  mutating func choice<T: RawRepresentable & CaseIterable>(
    _ name: String, _ type: T.Type = T.self
  ) -> T? where T.RawValue == String {
    guard let text = text(name) else { return nil }
    if let value = T(rawValue: text) { return value }
    let known = T.allCases.map(\.rawValue).joined(separator: ", ")
    blame(name, "It must be one of: \(known).")
    return nil
  }

  /// The only value of a parameter, which must be one of the words.
  mutating func choice(_ name: String, of words: [String]) -> String? {
    guard let text = text(name) else { return nil }
    if let word = words.first(where: { $0.utf8.elementsEqual(text.utf8) }) { return word }
    blame(name, "It must be one of: \(words.joined(separator: ", ")).")
    return nil
  }

  /// The value of an RFC 3339 time, in milliseconds since 1970.
  mutating func time(_ name: String) -> Int64? {
    guard let text = text(name) else { return nil }
    if let time = TimeText.read(text) { return time }
    blame(name, "It must be an RFC 3339 time such as 2026-11-01T00:00:00Z.")
    return nil
  }

  /// Marks parameters as known to `finish`. Every request of a kind has them.
  mutating func ignore(_ names: String...) { for name in names { asked.insert(Identifier(name)) } }

  /// - Throws: a 400 that names every parameter that is wrong or unknown.
  mutating func finish() throws(Problem) {
    var unknown: Set<Identifier> = []
    for (name, _) in values where !asked.contains(Identifier(name)) {
      guard unknown.insert(Identifier(name)).inserted else { continue }
      let known = asked.map(\.string).sorted().joined(separator: ", ")
      blame(
        String(name.prefix(100)),
        known.isEmpty
          ? "This operation has no parameters."
          : "It is unknown here. The known parameters are: \(known)."
      )
    }
    if !errors.isEmpty { throw Problem.badParameters(Array(errors.prefix(50))) }
  }

  private mutating func takeAll(_ name: String) -> [String] {
    asked.insert(Identifier(name))
    return values.filter { $0.name.utf8.elementsEqual(name.utf8) }.map(\.value)
  }
}
