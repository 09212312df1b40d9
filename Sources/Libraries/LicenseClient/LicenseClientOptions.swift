import FoundationEssentials
public import Licensing

/// The options of a `LicenseClient`. Only the URL is required, and a license key if the application
/// has one.
public struct LicenseClientOptions: Sendable {
  /// What happens while the service does not answer and nothing is known about a license.
  public enum Unknown: String, Sendable, CaseIterable {
    /// A verified "yes" is used for up to `graceFor`. After that the answer is "no".
    case graceThenDeny
    /// A verified "yes" is used for up to `graceFor`. After that the answer is "yes" without
    /// features.
    case allow
    /// The answer is "no" as soon as the last verdict is not fresh.
    case deny
  }

  /// What happens if the service's certificate has none of the pinned keys.
  public enum PinMode: String, Sendable, CaseIterable {
    /// The connection is refused.
    case enforce
    /// The connection is used, and `onProblem` is called.
    case report
  }

  /// The service's URL, such as `https://licenses.example.com`. Plain HTTP works only for loopback
  /// addresses.
  public var url: String
  /// A license's id or its token.
  public var licenseKey: String
  /// An API token with the scope `usage:write`, which `record` needs.
  public var token: String?
  /// The service's public keys, compiled in. If there are none, they are fetched from the service
  /// over TLS.
  public var keys: JSONWebKeySet?
  /// The pins, each `sha256/` and the base64 of the SHA-256 of a public key (SPKI). There must be
  /// at least two, or none.
  public var pins: [String] = []
  /// See `PinMode`.
  public var pinMode = PinMode.enforce
  /// A PEM file of the authorities to trust in place of the system's.
  public var caFile: String?
  /// A folder that keeps verdicts over a restart. The client makes it.
  public var cacheDirectory: String?
  /// How long a verdict is used without asking, from 1 minute to 1 hour.
  public var freshFor = Duration.seconds(300)
  /// How long a verified "yes" is used while the service does not answer, at most seven days.
  public var graceFor = Duration.seconds(7 * 86_400)
  /// See `Unknown`.
  public var onUnknown = Unknown.graceThenDeny
  /// Whether to check a license token offline if nothing is known and the service does not answer.
  public var offlineFallback = false
  /// How long connecting may take, including TLS.
  public var connectTimeout = Duration.seconds(2)
  /// How long a question may take, including retries.
  public var totalTimeout = Duration.seconds(5)
  /// How long the service is not asked after it gave no answer.
  public var pauseAfterFailure = Duration.seconds(10)
  /// The largest number of events that wait.
  public var maximumUsageQueue = 10_000
  /// Called with the name of each problem on any thread. It must not block.
  public var onProblem: @Sendable (String) -> Void = { _ in }
  /// The rules for domain names. Nil stands for the system's Public Suffix List.
  public var rules: (any DomainNameRules)?
  /// The clock in milliseconds since 1970. Tests replace it.
  public var clock: @Sendable () -> Int64 = { Int64(Date().timeIntervalSince1970 * 1_000) }

  /// Options with their defaults.
  public init(url: String, licenseKey: String = "") {
    self.url = url
    self.licenseKey = licenseKey
  }

  /// Why options are invalid.
  public struct Invalid: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence.
    public let description: String
    init(_ description: String) { self.description = description }
  }

  func check() throws(Invalid) {
    guard (.seconds(60) ... .seconds(3_600)).contains(freshFor) else {
      throw Invalid("freshFor must be 1 minute to 1 hour")
    }
    guard (.zero ... .seconds(7 * 86_400)).contains(graceFor) else {
      throw Invalid("graceFor must be at most seven days")
    }
    guard connectTimeout > .zero, totalTimeout > .zero, pauseAfterFailure >= .zero else {
      throw Invalid("connectTimeout and totalTimeout must be positive")
    }
    guard maximumUsageQueue >= 0 else { throw Invalid("maximumUsageQueue must not be negative") }
    guard licenseKey.isEmpty || licenseKey.isPlain(upTo: Self.maximumKeyBytes) else {
      throw Invalid("licenseKey must have at most 8,192 bytes and no control characters")
    }
    if let token, !token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) || token.isEmpty {
      throw Invalid("token must be printable ASCII without blanks")
    }
  }

  static let maximumKeyBytes = 8_192
}

extension Duration {
  /// The milliseconds, rounded down. A value that does not fit into 64 bits becomes the largest
  /// one.
  var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, isTooLarge) = seconds.multipliedReportingOverflow(by: 1_000)
    return isTooLarge ? .max : product + attoseconds / 1_000_000_000_000_000
  }
}

extension String {
  /// Whether the text is not empty, has at most this many bytes, and has no control characters.
  func isPlain(upTo bytes: Int) -> Bool {
    (1...bytes).contains(utf8.count) && utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
  }
}
