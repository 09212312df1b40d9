import Foundation
import KafkaTransport
import Logging
import ServiceRuntime
import UsageAggregation

/// A question to the inspector about one partition.
struct LogQuestion: Sendable {
  var partition: Int32
  var ticket: Int
  /// The record to compare, by offset and fingerprint.
  var remembered: (offset: Int64, hash: Int64)?
  /// An offset at which a batch could not be read. The question is whether it can be read now.
  var unreadable: Int64?
  /// The position of the consumer when it asked.
  var position: Int64?
}

struct LogAnswer: Sendable {
  var question: LogQuestion
  var result: Result<LogLook, KafkaError>
}

/// The answers to one round of questions.
struct LogAnswers: Sendable {
  var answers: [LogAnswer] = []
  /// The low watermark of every partition of the topic; nil for those that could not be asked for.
  /// Empty unless the round asked for them.
  var lows: [(partition: Int32, low: Int64?)] = []
  /// The time when the questions were asked.
  var askedAt = 0
  /// Whether any broker answered anything.
  var isAlive = false
  /// The reason why nothing was answered, or why this process does not see the topic.
  var error: KafkaError?
}

/// Asks Kafka about partitions with its own thread and client, so that a broker that does not
/// answer, or a partition without a leader, never holds up the partitions that can be read.
final class LogInspector: @unchecked Sendable {
  // Everything below `condition` is used with its lock held. Only the thread uses the reader.
  private struct Round {
    var questions: [LogQuestion]
    var wantsLows: Bool
    var askedAt: Int
  }

  private let condition = NSCondition()
  private var rounds: [Round] = []
  private var done: [LogAnswers] = []
  private var isClosed = false
  /// The time when the current round began; nil if there is none.
  private var busySince: Int?

  private let kafka: KafkaConfiguration
  private let topic: String
  private let clientID: String
  private var reader: LogReader?

  private static let timeoutMilliseconds: Int32 = 4_000
  private static let longestMilliseconds = 180_000

  init(kafka: KafkaConfiguration, topic: String, clientID: String) {
    self.kafka = kafka
    self.topic = topic
    self.clientID = clientID
    // The thread ends when the inspector is closed. Nobody waits for it, because it may hang in
    // librdkafka, where it does no harm.
    _ = WorkerThread("log-inspector") { [self] in run() }
  }

  func close() {
    condition.lock()
    isClosed = true
    condition.broadcast()
    condition.unlock()
  }

  // MARK: The consumer's side

  /// - Parameter wantsLows: also ask for the low watermarks of all partitions of the topic.
  func ask(_ questions: [LogQuestion], wantsLows: Bool = false) {
    condition.lock()
    rounds.append(
      Round(questions: questions, wantsLows: wantsLows, askedAt: Monotonic.milliseconds))
    condition.signal()
    condition.unlock()
  }

  /// Whether it has nothing to do and nothing to report.
  var isIdle: Bool {
    condition.lock()
    defer { condition.unlock() }
    return rounds.isEmpty && busySince == nil && done.isEmpty
  }

  /// Whether a round takes longer than any timeout explains, because librdkafka hangs.
  func isStuck(at now: Int) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    return busySince.map { now - $0 > Self.longestMilliseconds } ?? false
  }

  func take() -> [LogAnswers] {
    condition.lock()
    defer { condition.unlock() }
    if done.isEmpty { return [] }
    defer { done.removeAll() }
    return done
  }

  // MARK: The thread

  private func run() {
    while true {
      condition.lock()
      busySince = nil
      while rounds.isEmpty, !isClosed { condition.wait() }
      if isClosed {
        condition.unlock()
        // The client is freed here, on a thread that nobody waits for.
        reader = nil
        return
      }
      let round = rounds.removeFirst()
      busySince = Monotonic.milliseconds
      condition.unlock()
      let answers = answer(round)
      condition.lock()
      done.append(answers)
      condition.unlock()
    }
  }

  private func answer(_ round: Round) -> LogAnswers {
    var answers = LogAnswers()
    answers.askedAt = round.askedAt
    do {
      let reader = try open()
      if round.wantsLows || round.questions.isEmpty {
        let count = try reader.partitionCount(
          topic, timeoutMilliseconds: Self.timeoutMilliseconds)
        answers.isAlive = true
        if round.wantsLows {
          guard let count else { throw KafkaError(code: 3, operation: "metadata", detail: topic) }
          answers.lows = lows(count, reader)
        }
      }
      answers.answers = look(round.questions, reader)
      for answer in answers.answers {
        switch answer.result {
        case .success: answers.isAlive = true
        // A broker that refuses is alive too. librdkafka's own codes are below 0.
        case .failure(let error): if error.code > 0 { answers.isAlive = true }
        }
      }
    } catch {
      let error =
        error as? KafkaError
        ?? KafkaError(code: -196, operation: "look at the log", detail: "\(error)")
      answers.error = error
      answers.answers = round.questions.map { LogAnswer(question: $0, result: .failure(error)) }
    }
    if !answers.isAlive, answers.error == nil, !answers.answers.isEmpty {
      answers.error = firstError(answers.answers)
    }
    return answers
  }

  private func firstError(_ answers: [LogAnswer]) -> KafkaError? {
    for answer in answers {
      if case .failure(let error) = answer.result { return reader?.explained(error) ?? error }
    }
    return nil
  }

  private func open() throws -> LogReader {
    if let reader { return reader }
    let made = try LogReader(
      kafka, clientID: clientID, stallTimeoutMilliseconds: 5_000, readsSingleRecords: true)
    reader = made
    return made
  }

  private func place(_ partition: Int32) -> TopicPartition {
    TopicPartition(topic: topic, partition: partition)
  }

  private func lows(_ count: Int, _ reader: LogReader) -> [(partition: Int32, low: Int64?)] {
    let ends = reader.watermarks(
      of: (0..<Int32(count)).map(place), timeoutMilliseconds: Self.timeoutMilliseconds)
    return (0..<Int32(count)).map { partition in
      // After an error the partition cannot be read now, and gets its low watermark later.
      (partition, (try? ends[place(partition)]?.get())?.low)
    }
  }

  private func look(_ questions: [LogQuestion], _ reader: LogReader) -> [LogAnswer] {
    guard !questions.isEmpty else { return [] }
    let ends = reader.watermarks(
      of: questions.map { place($0.partition) }, timeoutMilliseconds: Self.timeoutMilliseconds)
    let known = together(questions, ends, reader)
    return questions.map { question in
      let answer =
        ends[place(question.partition)]
        ?? .failure(KafkaError(code: -190, operation: "watermarks"))
      return LogAnswer(
        question: question,
        result: answer.flatMap { ends in
          do throws(KafkaError) {
            return .success(try compare(question, ends, known[question.partition], reader))
          } catch {
            return .failure(error)
          }
        })
    }
  }

  /// Whether the remembered records are where they were. All are read at the same time. The result
  /// is empty if any of them cannot be read, and each is then read alone.
  private func together(
    _ questions: [LogQuestion], _ ends: [TopicPartition: Result<LogEnds, KafkaError>],
    _ reader: LogReader
  ) -> [Int32: LogLook.Identity] {
    var wanted: [Int32: Int64] = [:]
    for question in questions {
      guard let remembered = question.remembered,
        case .success(let log) = ends[place(question.partition)],
        (log.low..<log.high).contains(remembered.offset)
      else { continue }
      wanted[question.partition] = remembered.hash
    }
    guard wanted.count > 1 else { return [:] }
    var known = wanted.mapValues { _ in LogLook.Identity.differs }
    let ranges = questions.compactMap { question -> LogReader.Range? in
      guard wanted[question.partition] != nil, let offset = question.remembered?.offset else {
        return nil
      }
      return LogReader.Range(place(question.partition), from: offset, to: offset + 1)
    }
    do {
      try reader.readAll(ranges) { record in
        if Self.fingerprint(record) == wanted[record.partition] {
          known[record.partition] = .same
        }
      }
      return known
    } catch {
      return [:]
    }
  }

  private static func fingerprint(_ record: RecordView) -> Int64 {
    KeyedHash.fingerprint(
      of: LogRecordView(
        offset: record.offset, timestamp: record.timestamp, value: record.value, key: record.key))
  }

  /// Compares the remembered record, if the log still reaches back to it.
  ///
  /// - Parameter known: what is already known about it.
  private func compare(
    _ question: LogQuestion, _ ends: LogEnds, _ known: LogLook.Identity?, _ reader: LogReader
  ) throws(KafkaError) -> LogLook {
    var look = LogLook(low: ends.low, high: ends.high, identity: known ?? .unknown)
    if let offset = question.unreadable, (ends.low..<ends.high).contains(offset) {
      _ = try read(offset, of: question.partition, reader)
    }
    guard known == nil, let remembered = question.remembered, remembered.offset >= ends.low else {
      return look
    }
    look.identity = .differs
    if remembered.offset < ends.high,
      try read(remembered.offset, of: question.partition, reader) == remembered.hash
    {
      look.identity = .same
    }
    return look
  }

  /// - Returns: the fingerprint of the record at that offset; nil if there is none.
  private func read(
    _ offset: Int64, of partition: Int32, _ reader: LogReader
  ) throws(KafkaError) -> Int64? {
    var found: Int64?
    do {
      try reader.read(place(partition), from: offset, to: offset + 1) { record in
        found = Self.fingerprint(record)
      }
    } catch {
      throw error as? KafkaError
        ?? KafkaError(code: -196, operation: "read a record", detail: "\(error)")
    }
    return found
  }
}
