import Billing
import Logging
import PostgresStore
import Synchronization

/// The objects that handlers share.
final class APIContext: Sendable {
  let settings: APISettings
  let database: DatabasePool
  let tokens = TokenCache()
  let watch: LogWatch
  /// Nil if no Stripe key is set.
  let exports: StripeExports?
  let logger: Logger
  private let signer = Mutex<CursorSigner?>(nil)

  init(
    settings: APISettings, database: DatabasePool, watch: LogWatch, exports: StripeExports?,
    logger: Logger
  ) {
    self.settings = settings
    self.database = database
    self.watch = watch
    self.exports = exports
    self.logger = logger
  }

  /// Signs cursors with a secret from the database, so that every process accepts the others'
  /// cursors.
  func cursorSigner() async throws -> CursorSigner {
    if let known = signer.withLock({ $0 }) { return known }
    let secret = try await database.read { try APISecretStore($0).secret() }
    let made = CursorSigner(key: secret)
    signer.withLock { $0 = made }
    return made
  }
}
