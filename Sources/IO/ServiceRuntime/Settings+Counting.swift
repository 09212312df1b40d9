/// The settings that decide what counts. Every program that decides it (the consumers, and
/// `meterctl` when it counts the log again) reads them here, so that a value which one of them
/// accepts is never refused by another.
extension Settings {
  /// `METER_MAX_QUANTITY`: the largest quantity of one event.
  package func maxQuantity() throws(ConfigurationError) -> Int64 {
    Int64(try self[DeclaredSettings.maxQuantity])
  }

  /// `METER_MAX_EVENT_AGE`: how much older than its record an event may be, in milliseconds.
  package func maxEventAgeMilliseconds() throws(ConfigurationError) -> Int64 {
    Int64(try self[DeclaredSettings.maxEventAge])
  }
}
