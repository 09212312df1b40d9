import MeteringTestKit
import Testing

extension Trait where Self == ConditionTrait {
  /// The test needs the faults, or the limits, of librdkafka's mock cluster.
  static var mockClusterOnly: Self {
    .enabled(if: GivenKafka.brokers == nil, "it needs what only the mock cluster can do")
  }

  /// The test needs something that only a real broker has.
  static var realKafkaOnly: Self {
    .enabled(if: GivenKafka.brokers != nil, "it needs METER_TEST_KAFKA_BROKERS")
  }
}
