package import EventCodec
import Metering

extension LogAccumulator {
  /// What a consumer of the log wants of it.
  package struct Settings: Sendable {
    /// One consumer of a topic writes down what it refuses. The others only count it.
    package var keepsDeadLetters = true
    package var reads = EventDecoder.Reads.usage
    /// Usage is summed by license, meter and minute alone, and an event counts no later than its
    /// record: what a detector of rates wants. Else by the event's own time, with its domain and
    /// feature.
    package var countsRates = false
    package var maxQuantity = Limits.quantity
    package var maxEventAgeMilliseconds = Limits.eventAgeMilliseconds
    package var maxProducers = Limits.producersPerPartition
    package init() {}
  }
}
