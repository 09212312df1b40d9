import JSONText
package import KafkaTransport
package import PostgresStore
import Synchronization

/// Sends dead letters to their topics again.
package final class DeadLetterSender: Sendable {
  /// The payloads of one page are in memory together: 200 of 64 KiB are 13 MB.
  package static let pageRows = 200
  private static let timeoutMilliseconds: Int32 = 30_000

  private let producer: KafkaProducer
  private let acknowledged: Acknowledged

  /// The records that the brokers accepted, by the delivery's opaque number, which is an index into
  /// the page.
  private final class Acknowledged: Sendable {
    let results = Mutex<[UInt: KafkaError?]>([:])
  }

  /// - Parameter configuration: the configuration for any client of the cluster.
  package init(
    _ configuration: KafkaConfiguration, clientID: String
  ) throws {
    var configuration = configuration
    configuration.set("message.timeout.ms", String(Self.timeoutMilliseconds))
    let acknowledged = Acknowledged()
    self.acknowledged = acknowledged
    producer = try KafkaProducer(configuration, clientID: clientID) { delivery in
      acknowledged.results.withLock { $0[delivery.opaque] = .some(delivery.error) }
    }
  }

  /// Sends a page and waits up to 35 s for the brokers. Call it from one thread at a time and
  /// outside of any transaction.
  ///
  /// - Parameter page: at most `pageRows` dead letters with their payloads.
  /// - Returns: the dead letters that the brokers accepted, and why they refused the others.
  package func send(
    _ page: [DeadLetterStore.DeadLetter]
  ) throws -> (taken: [DeadLetterStore.Name], refusal: String?) {
    acknowledged.results.withLock { $0 = [:] }
    for (i, deadLetter) in page.enumerated() { try send(deadLetter, UInt(i)) }
    // Its timeout tells no more than the missing acknowledgements.
    try? producer.flush(timeoutMilliseconds: Self.timeoutMilliseconds + 5_000)
    let results = acknowledged.results.withLock { $0 }
    let taken = page.indices.filter { results[UInt($0)] == .some(.none) }.map {
      DeadLetterStore.Name(page[$0].place, valueHash: page[$0].valueHash ?? "")
    }
    guard taken.count < page.count else { return (taken, nil) }
    return (taken, results.values.compactMap { $0 }.first.map { "\($0)" } ?? "no answer")
  }

  private func send(_ deadLetter: DeadLetterStore.DeadLetter, _ opaque: UInt) throws {
    let value = deadLetter.payload ?? []
    let key = Self.key(of: value) ?? deadLetter.key
    let headers = [("dead-letter", Array(deadLetter.place.description.utf8))]
    func produce() throws -> Bool {
      try value.withUnsafeBytes { value in
        guard let key else {
          return try producer.produce(
            topic: deadLetter.place.topic, key: nil, value: value, headers: headers,
            opaque: opaque)
        }
        return try key.withUnsafeBytes { key in
          try producer.produce(
            topic: deadLetter.place.topic, key: key, value: value, headers: headers,
            opaque: opaque)
        }
      }
    }
    while try !produce() { producer.poll(timeoutMilliseconds: 100) }
  }

  /// The key that the contract requires, which is the subject or, for a report, the producer. Nil
  /// if the value has none.
  package static func key(of value: [UInt8]) -> [UInt8]? {
    guard let json = try? JSONReader.parse(value),  // A value that is not JSON keeps its key.
      case .object(let members) = json
    else { return nil }
    let isReport =
      if case .string(let type) = members["type"] {
        type.equals("license.producer.reported")
      } else { false }
    guard case .string(let name) = members[isReport ? "producer" : "subject"],
      !name.bytes.isEmpty, !name.hasLoneSurrogate
    else { return nil }
    return name.bytes
  }
}
