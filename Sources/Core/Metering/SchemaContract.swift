/// What Swift and the SQL of the schema must agree on.
///
/// Each value is written once here and once in `Sources/IO/PostgresStore/Schema`, because a
/// function in SQL cannot read Swift. `SchemaContractTests` compares the two.
package enum SchemaContract {
  // MARK: Times

  /// How long the rows of minutes are kept.
  package static let minuteDays: Int64 = 7
  /// How long the rows of hours are kept.
  package static let hourDays: Int64 = 400
  /// How long the hours of meters are kept. They are kept two days longer than the hours that they
  /// sum up.
  package static let meterHourDays: Int64 = 402
  /// How long alerts, dead letters and producer reports are kept.
  package static let recordDays: Int64 = 400
  /// How long a license stays valid after it has expired, unless it is a trial.
  package static let graceDays: Int64 = 7
  /// How long a license gets no further alert after an alert about a burst.
  package static let coolDownMinutes: Int32 = 60

  // MARK: Locks

  /// Advisory locks with fixed numbers. A database has one space of such numbers.
  package enum LockNumber: Int64, CaseIterable, Sendable {
    /// Held by a session while migrations run.
    case migration = 0x4D45_5445_5231
    /// Held by a session while old rows are removed.
    case retention = 0x4D45_5445_5232
    /// Held by a session while hours are exported to Stripe.
    case stripeExport = 0x4D45_5445_5253
    case limits = 84_960_541_029
    case fold = 84_960_541_030
    case close = 84_960_541_031
    case combine = 84_960_541_032

    /// The SQL function that returns the number. Nil if only Swift takes the lock.
    package var function: String? {
      switch self {
      case .migration, .retention, .stripeExport: nil
      case .limits: "limit_lock_key"
      case .fold: "usage_fold_lock_key"
      case .close: "close_lock_key"
      case .combine: "usage_combine_lock_key"
      }
    }
  }

  /// Advisory locks by name. The number is `hashtextextended` of the name and the subject of the
  /// lock.
  package enum LockName: String, CaseIterable, Sendable {
    case auditCheckpoint = "audit checkpoint "
    case burst = "burst/"
    case endpoints = "webhook endpoints "
    case expiryNotices = "expiry notices"
    case firstClaim = "first claim "
    case fileImport = "import "
    case licenseImport = "license import"
    case newEpoch = "new epoch "
    case usageWatch = "usage watch"
  }
}

/// The SQLSTATEs that code depends on.
package enum SQLState {
  // MARK: The schema's own

  /// Other processes own partitions of this flush now. The error's detail names them.
  package static let takenOver = "MM001"
  /// A dead letter that was sent again had been counted already.
  package static let requeuedTwice = "MM002"
  /// The change would alter the basis on which a closed period was billed.
  package static let periodIsClosed = "MM003"
  /// Every state that functions of the schema raise.
  package static let raised = [takenOver, requeuedTwice, periodIsClosed]

  // MARK: PostgreSQL's

  package static let cannotConnect = "08001"
  package static let connectionFailure = "08006"
  /// PostgreSQL also uses it for a prepared statement whose columns have other types after a change
  /// of the schema.
  package static let notSupported = "0A000"
  package static let numericOverflow = "22003"
  /// A date or time lies outside of what PostgreSQL can hold.
  package static let timeOverflow = "22008"
  package static let badCharacter = "22021"
  package static let foreignKeyViolation = "23503"
  package static let checkViolation = "23514"
  package static let idleInTransaction = "25P03"
  package static let unknownStatement = "26000"
  package static let notAllowed = "28000"
  package static let wrongPassword = "28P01"
  package static let unknownDatabase = "3D000"
  package static let notInNeededState = "55000"
  package static let lockNotAvailable = "55P03"
  /// A statement was canceled, usually by its time limit.
  package static let canceled = "57014"
  /// A fault outside of PostgreSQL, in the client or because this build does not know the schema.
  package static let system = "58000"
}
