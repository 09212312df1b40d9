import Synchronization

/// Stands in for `LicenseClient` in tests, without network and clock. It gives the answer that it
/// was made with, and remembers the questions.
public final class FakeLicenseClient: LicenseValidator, Sendable {
  private struct Seen {
    var result: LicenseResult
    var asked: [String] = []
    var recorded: [UsageRecord] = []
  }

  private let seen: Mutex<Seen>

  /// A client that answers `result`.
  public init(_ result: LicenseResult) { seen = Mutex(Seen(result: result)) }

  /// A client that says yes.
  public static func valid(features: LicenseFeatures = []) -> FakeLicenseClient {
    var result = LicenseResult(isValid: true, code: "valid", source: .online)
    result.features = features
    return FakeLicenseClient(result)
  }

  /// A client that says no, with one of the service's codes or `unreachable`.
  public static func denied(_ code: String) -> FakeLicenseClient {
    FakeLicenseClient(.denied(code, code == "unreachable" ? .none : .online))
  }

  /// The answer from now on.
  public var result: LicenseResult {
    get { seen.withLock(\.result) }
    set { seen.withLock { $0.result = newValue } }
  }

  /// Answers `result`.
  public func validate(_ domain: String) async -> LicenseResult {
    seen.withLock { seen in
      seen.asked.append(domain)
      return seen.result
    }
  }

  /// Remembers the record.
  @discardableResult
  public func record(_ usage: UsageRecord) -> Bool {
    seen.withLock { $0.recorded.append(usage) }
    return true
  }

  /// The domains that were asked about so far.
  public var asked: [String] { seen.withLock(\.asked) }

  /// The usage that was recorded so far.
  public var recorded: [UsageRecord] { seen.withLock(\.recorded) }
}
