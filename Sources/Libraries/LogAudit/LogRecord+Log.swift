package import KafkaTransport
import Metering
package import Recount

extension LogRecord {
  /// Makes a record. It has its header `dead-letter` only if the header is confirmed.
  package init(_ view: RecordView, _ requeues: Requeues) throws {
    self.init(
      partition: view.partition, offset: view.offset, timestamp: view.timestamp,
      key: view.key.map { [UInt8]($0) }, value: view.value.map { [UInt8]($0) })
    if let header = view.header(named: "dead-letter") {
      deadLetterHeader = try requeues.confirmed(header, of: self)
    }
  }
}

extension UsageEvent {
  package var minuteKey: UsageKey {
    UsageKey(
      license: ExactText(subject), meter: ExactText(meter),
      minuteStart: floorDivide(timeMilliseconds, by: 60_000))
  }
}

extension UsageKey {
  package var hour: PartitionRecount.ProvenanceKey {
    PartitionRecount.ProvenanceKey(
      license: license, meter: meter, hourStart: UsageWindow.hour.start(ofMinute: minuteStart))
  }
  package func start(of window: UsageWindow) -> UsageKey {
    UsageKey(license: license, meter: meter, minuteStart: window.start(ofMinute: minuteStart))
  }
}
