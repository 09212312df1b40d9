public import Licensing
import Metering

/// Whether the application may run, why, and how this is known. A "no" is a result and never an
/// error.
public struct LicenseResult: Sendable {
  /// How a result is known.
  public enum Source: String, Sendable, CaseIterable {
    /// The service has just signed it.
    case online
    /// The service signed it a while ago.
    case cache
    /// It is remembered while the service gives no answer.
    case grace
    /// It was judged from the license token itself.
    case offline
    /// Nothing is known.
    case none
  }

  /// Whether the application may run.
  public var isValid: Bool
  /// One of the service's (`Verdict.Code`), `clock_rolled_back` or `unreachable`.
  public var code: String
  /// See `Source`.
  public var source: Source
  /// How long ago the service signed it.
  public var age = Duration.zero
  /// Empty where the license is not known.
  public var licenseID = ""
  /// Empty where the license is not known.
  public var plan = ""
  /// Empty where the license does not hold.
  public var features = LicenseFeatures()
  /// By name: `apiCalls`, `seats`, meters.
  public var limits: [LicenseClaims.Limit] = []
  /// Milliseconds since 1970; nil where it is not known.
  public var expiresAt: Int64?
  /// The license has expired and holds for up to seven days more.
  public var isInGrace = false
  /// Its usage is beyond a limit.
  public var isOverLimit = false
  /// One sentence for a developer; nil where the license holds.
  public var explanation: String?
  /// Why the service gave no answer: `timeout`, `connection`, `tls`, `pin_mismatch`, `too_large`,
  /// `untrusted`, `http_503` and others of the kind; or why a license token is not believed
  /// offline. Nil where there is nothing to tell.
  public var problem: String?

  /// A result; the client and its test double make them.
  public init(isValid: Bool, code: String, source: Source) {
    self.isValid = isValid
    self.code = code
    self.source = source
  }

  /// A "no" that the service has not signed.
  static func denied(_ code: String, _ source: Source, problem: String? = nil) -> LicenseResult {
    var result = LicenseResult(isValid: false, code: code, source: source)
    result.problem = problem
    result.explanation =
      Verdict.Code(rawValue: code).flatMap { Verdict($0).explanation } ?? explanations[code]
    return result
  }

  private static let explanations = [
    "clock_rolled_back":
      "The clock shows an earlier time than one that the license service has signed before.",
    "unreachable":
      "The license service gave no valid answer, and nothing is known about the license.",
  ]
}

/// What a license unlocks. Names are compared by their bytes.
public struct LicenseFeatures: Sendable, Equatable, ExpressibleByArrayLiteral {
  private var identifiers: Set<Identifier>

  /// Those names.
  public init(_ names: [String] = []) { identifiers = Set(names.map(Identifier.init(_:))) }

  /// Those names.
  public init(arrayLiteral names: String...) { self.init(names) }

  /// Whether the license unlocks it.
  public func has(_ name: String) -> Bool { identifiers.contains(Identifier(name)) }

  /// Sorted by their bytes.
  public var names: [String] { identifiers.sorted().map(\.string) }
}
