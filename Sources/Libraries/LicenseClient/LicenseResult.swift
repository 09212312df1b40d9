public import Licensing
import Metering

/// Whether the application may run, why, and where the result comes from. A "no" is a result and
/// never an error.
public struct LicenseResult: Sendable {
  /// The origin of a result.
  public enum Source: String, Sendable, CaseIterable {
    /// The service has just signed it.
    case online
    /// The service signed it some time ago.
    case cache
    /// It is an earlier verdict that is used while the service does not answer.
    case grace
    /// It comes from the license token itself.
    case offline
    /// Nothing is known.
    case none
  }

  /// Whether the application may run.
  public var isValid: Bool
  /// One of the service's codes (`Verdict.Code`), `clock_rolled_back` or `unreachable`.
  public var code: String
  /// See `Source`.
  public var source: Source
  /// How long ago the service signed it.
  public var age = Duration.zero
  /// It is empty if the license is not known.
  public var licenseID = ""
  /// It is empty if the license is not known.
  public var plan = ""
  /// The features, which are empty if the license is not valid.
  public var features = LicenseFeatures()
  /// The limits by name, which is `apiCalls`, `seats` or a meter.
  public var limits: [LicenseClaims.Limit] = []
  /// When the license expires, in milliseconds since 1970. Nil if that is not known.
  public var expiresAt: Int64?
  /// Whether the license has expired but is still valid for up to seven days.
  public var isInGrace = false
  /// Whether its usage is beyond a limit.
  public var isOverLimit = false
  /// One sentence for a developer. Nil if the license is valid.
  public var explanation: String?
  /// Why the service gave no answer, such as `timeout`, `connection`, `tls`, `pin_mismatch`,
  /// `too_large`, `untrusted` or `http_503`. For an offline check, it is why a license token is not
  /// accepted. Nil if there was no problem.
  public var problem: String?

  /// Makes a result. Only the client and its test double need this.
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
      "The clock is behind a time that the license service has signed.",
    "unreachable":
      "The license service gave no valid answer, and nothing is known about the license.",
  ]
}

/// The features that a license unlocks. Names are compared by their bytes.
public struct LicenseFeatures: Sendable, Equatable, ExpressibleByArrayLiteral {
  private var identifiers: Set<Identifier>

  /// Makes a set of those names.
  public init(_ names: [String] = []) { identifiers = Set(names.map(Identifier.init(_:))) }

  /// Makes a set of those names.
  public init(arrayLiteral names: String...) { self.init(names) }

  /// Whether the license unlocks the feature.
  public func has(_ name: String) -> Bool { identifiers.contains(Identifier(name)) }

  /// The names, sorted by their bytes.
  public var names: [String] { identifiers.sorted().map(\.string) }
}
