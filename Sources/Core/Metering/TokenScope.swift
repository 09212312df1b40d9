/// What an API token may do.
package enum TokenScope: String, Sendable, CaseIterable {
  case admin
  case billingRead = "billing:read"
  case billingWrite = "billing:write"
  case licensesRead = "licenses:read"
  /// `POST /v1/licenses/validate`, if `METER_REQUIRE_API_KEY` asks for a token.
  case licensesValidate = "licenses:validate"
  case licensesWrite = "licenses:write"
  case usageRead = "usage:read"
  /// `POST /v1/events`, and validations with or without `usage`.
  case usageWrite = "usage:write"
  case webhooksRead = "webhooks:read"
  case webhooksWrite = "webhooks:write"

  /// A scope that includes this one. A write scope includes its read scope.
  private var wider: TokenScope? {
    switch self {
    case .billingRead: .billingWrite
    case .licensesRead: .licensesWrite
    case .licensesValidate, .usageRead: .usageWrite
    case .webhooksRead: .webhooksWrite
    case .admin, .billingWrite, .licensesWrite, .usageWrite, .webhooksWrite: nil
    }
  }

  /// Whether a token with the scopes `granted` may do this. `admin` includes every scope.
  package func isGranted(by granted: Set<String>) -> Bool {
    granted.contains(rawValue) || granted.contains(Self.admin.rawValue)
      || wider.map { granted.contains($0.rawValue) } ?? false
  }
}
