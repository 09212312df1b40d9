/// The names of Kafka's topics.
package enum TopicName {
  package static let usage = "license.usage.v1"
  package static let validations = "license.validations.v1"
  package static let deadLetters = "license.dead-letter.v1"
}

/// The names of the consumer groups, which are also the names of the programs.
package enum ConsumerGroup {
  package static let aggregator = "usage-aggregator"
  package static let detector = "anomaly-detector"
}
