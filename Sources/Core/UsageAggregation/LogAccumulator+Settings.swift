package import EventCodec
import Metering

extension LogAccumulator {
  /// What a consumer wants from the log.
  package struct Settings: Sendable {
    /// Whether refused records are stored as dead letters. One consumer of each topic does that,
    /// and the others only count them.
    package var keepsDeadLetters = true
    package var reads = EventDecoder.Reads.usage
    /// Whether usage is summed only by license, meter and minute, with each event no later than its
    /// record. A detector of rates needs that. Otherwise usage is summed by the event's own time,
    /// with its domain and feature.
    package var countsRates = false
    package var maxQuantity = Limits.quantity
    package var maxEventAgeMilliseconds = Limits.eventAgeMilliseconds
    package var maxProducers = Limits.producersPerPartition
    package init() {}
  }
}
