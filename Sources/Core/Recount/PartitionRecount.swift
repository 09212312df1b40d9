import Metering

/// The outcome of a record, given the records before it.
package enum Decision: Equatable, Sendable {
  package enum Cause: String, Sendable {
    /// Rule (a). Its sequence is not above the highest of its producer.
    case sequence
    /// Rule (b). Its identity is within the window.
    case id
    /// The dead letter that it requeues was settled before.
    case requeued
  }

  case counted(UsageEvent)
  case duplicate(UsageEvent, because: Cause)
  case deadLetter(reason: String, detail: String)
  case report(ProducerReport)
}

/// Counts one partition again from its records alone.
///
/// Feed the records in the order of their offsets. Records below `countFrom` fill the window, the
/// sequences and the sets of dead letters, and are not counted. Feed at least as many of them as
/// the window holds, if the log still has them.
package struct PartitionRecount: Sendable {
  /// The hour of a license and meter, in this partition.
  package struct ProvenanceKey: Hashable, Sendable {
    package var license: ExactText
    package var meter: ExactText
    /// The epoch minute at which the hour begins.
    package var hourStart: Int64

    package init(license: ExactText, meter: ExactText, hourStart: Int64) {
      self.license = license
      self.meter = meter
      self.hourStart = hourStart
    }
  }

  package let partition: Int32
  package let settings: RecountSettings
  package let countFrom: Int64

  /// The counts by minute.
  package private(set) var totals: [UsageKey: Tally] = [:]
  /// The counts by value of a dimension. Every value has its own row here, and there is no
  /// `(other)`.
  package private(set) var dimensionTotals: [DimensionKey: Tally] = [:]
  package private(set) var provenance: [ProvenanceKey: OffsetRange] = [:]
  /// The reasons of dead letters by offset.
  package private(set) var deadLetters: [Int64: String] = [:]
  /// The ledger by producer. It contains only events that have both a producer and a sequence. If a
  /// checkpoint was reached, it covers the records from there on.
  package private(set) var ledger: [ExactText: LedgerEntry] = [:]
  /// The ledger of the records before the checkpoint. Nil while none was reached.
  package private(set) var ledgerBefore: [ExactText: LedgerEntry]?
  /// The highest sequence of each producer's valid usage events.
  package private(set) var sequences: [ExactText: Int64]
  /// The highest sequence of each producer's dead letters.
  package private(set) var deadLetteredSequences: [ExactText: Int64]

  /// The number of producers that made room for others and lost their sequences.
  package private(set) var forgottenProducers: Int64 = 0

  private var recent: RecentProducers
  private var window: DedupeWindow
  private var requeuedLetters: Set<RequeuedLetter>
  private var previousOffset: Int64?
  private var checkpoint: RecountCheckpoint?

  /// - Parameters:
  ///   - sequences: the highest sequence of each producer before the first record that will be fed.
  ///   - deadLetteredSequences: the same for dead letters.
  ///   - requeuedLetters: the dead letters that were settled before that record.
  ///   - checkpoint: replaces what is known about producers when its offset is reached. The window
  ///     still comes from the records that were fed.
  package init(
    partition: Int32, settings: RecountSettings, countFrom: Int64,
    sequences: [ExactText: Int64] = [:], deadLetteredSequences: [ExactText: Int64] = [:],
    requeuedLetters: Set<RequeuedLetter> = [], checkpoint: RecountCheckpoint? = nil
  ) {
    self.partition = partition
    self.settings = settings
    self.countFrom = countFrom
    self.sequences = sequences
    self.deadLetteredSequences = deadLetteredSequences
    self.requeuedLetters = requeuedLetters
    recent = RecentProducers(maximum: settings.maxProducers)
    recent.begin(with: Set(sequences.keys).union(deadLetteredSequences.keys).sorted())
    window = DedupeWindow(history: settings.windows(partition))
    self.checkpoint = checkpoint
  }

  /// Takes the partition's next record. The time is amortized constant, apart from reading its
  /// value.
  ///
  /// It also decides on records below `countFrom`, based on the records that were fed.
  package mutating func feed(_ record: LogRecord) -> Decision {
    precondition(record.partition == partition, "a record of another partition")
    precondition(
      previousOffset.map { $0 < record.offset } ?? true, "records out of the order of offsets")
    previousOffset = record.offset
    reach(record.offset)
    let isCounting = record.offset >= countFrom

    switch judge(record, settings) {
    case .report(let report):
      return .report(report)
    case .rejected(let reason, let detail, let producer, let sequence):
      if isCounting {
        deadLetters[record.offset] = reason
      }
      if let producer, let sequence {
        hear(ExactText(String(decoding: producer, as: UTF8.self)), at: record.offset)
        noteDeadLetter(of: producer, sequence, isCounting: isCounting)
      }
      return .deadLetter(reason: reason, detail: detail)
    case .usage(let event):
      if let producer = event.numberedProducer { hear(producer, at: record.offset) }
      let highest = event.numberedProducer.flatMap { sequences[$0] }
      let cause = causeOfDuplicate(event, record, highest: highest)
      remember(event, record)
      if isCounting {
        noteInLedger(event, record, cause, highest: highest)
        if cause == nil {
          count(event, at: record.offset)
        }
      }
      return cause.map { .duplicate(event, because: $0) } ?? .counted(event)
    }
  }

  /// States that all records before `offset` were fed. `feed` implies it for each record.
  package mutating func reach(_ offset: Int64) {
    guard let checkpoint, checkpoint.offset <= offset else { return }
    self.checkpoint = nil
    ledgerBefore = ledger
    ledger = [:]
    sequences = [:]
    deadLetteredSequences = [:]
    recent = RecentProducers(maximum: settings.maxProducers)
    let remembered = checkpoint.producers.filter { !$0.isForgotten }.suffix(settings.maxProducers)
    recent.begin(with: remembered.map(\.name))
    for producer in remembered {
      if producer.sequence >= 0 { sequences[producer.name] = producer.sequence }
      if producer.deadSequence >= 0 {
        deadLetteredSequences[producer.name] = producer.deadSequence
      }
    }
  }

  /// Anybody can invent a producer's name, so a partition remembers only the producers that were
  /// heard last.
  private mutating func hear(_ producer: ExactText, at offset: Int64) {
    guard let gone = recent.hear(producer, at: offset) else { return }
    sequences[gone] = nil
    deadLetteredSequences[gone] = nil
    forgottenProducers += 1
  }

  // MARK: Duplicates

  /// Returns nil if the event counts.
  private func causeOfDuplicate(
    _ event: UsageEvent, _ record: LogRecord, highest: Int64?
  ) -> Decision.Cause? {
    if let letter = record.requeuedLetter {
      // Rule (a) does not apply, because nearly every requeued record has a sequence below those
      // that came later.
      if requeuedLetters.contains(letter) { return .requeued }
    } else if event.numberedProducer != nil, let sequence = event.sequence, let highest,
      sequence <= highest
    {
      return .sequence
    }
    return window.contains(event.identity, before: record.offset) ? .id : nil
  }

  /// Every valid usage event renews its identity and moves its sequence, even if it is a duplicate.
  private mutating func remember(_ event: UsageEvent, _ record: LogRecord) {
    window.insert(event.identity, at: record.offset)
    if let producer = event.numberedProducer, let sequence = event.sequence {
      sequences[producer] = max(sequence, sequences[producer] ?? sequence)
    }
    if let letter = record.requeuedLetter { requeuedLetters.insert(letter) }
  }

  // MARK: Numbers

  private mutating func count(_ event: UsageEvent, at offset: Int64) {
    let license = ExactText(event.subject)
    let meter = ExactText(event.meter)
    let minute = floorDivide(event.timeMilliseconds, by: 60_000)
    let tally = Tally(quantity: event.quantity, eventCount: 1)

    let usageKey = UsageKey(license: license, meter: meter, minuteStart: minute)
    totals[usageKey, default: Tally()].add(tally)

    let dimensions: [(DimensionKey.Dimension, String?)] = [
      (.domain, event.domain), (.feature, event.feature),
    ]
    for case (let dimension, let value?) in dimensions {
      let key = DimensionKey(
        license: license, meter: meter, dayStart: UsageWindow.day.start(ofMinute: minute),
        dimension: dimension, value: ExactText(value))
      dimensionTotals[key, default: Tally()].add(tally)
    }

    let provenanceKey = ProvenanceKey(
      license: license, meter: meter, hourStart: UsageWindow.hour.start(ofMinute: minute))
    let here = OffsetRange(firstOffset: offset, lastOffset: offset)
    provenance[provenanceKey, default: here].include(here)
  }

  private mutating func noteInLedger(
    _ event: UsageEvent, _ record: LogRecord, _ cause: Decision.Cause?, highest: Int64?
  ) {
    guard let producer = event.numberedProducer, let sequence = event.sequence else { return }
    // The ledger already has the event as dead-lettered.
    if record.deadLetterHeader != nil, cause != nil { return }
    var entry = ledger[producer] ?? LedgerEntry()
    switch cause {
    case nil where record.deadLetterHeader != nil:
      entry.requeued += 1
    case nil:
      entry.counted += 1
    case .requeued:
      break
    case .sequence, .id:
      entry.duplicates += 1
      if highest.map({ sequence > $0 }) ?? true {
        entry.repeated += 1
      }
    }
    ledger[producer] = entry
  }

  private mutating func noteDeadLetter(
    of producer: [UInt8], _ sequence: Int64, isCounting: Bool
  ) {
    let producer = ExactText(String(decoding: producer, as: UTF8.self))
    // A resend changes nothing, even if the first sighting was valid and this one is too old.
    let highest = max(deadLetteredSequences[producer] ?? -1, sequences[producer] ?? -1)
    guard sequence > highest else { return }
    deadLetteredSequences[producer] = sequence
    if isCounting {
      ledger[producer, default: LedgerEntry()].deadLettered += 1
    }
  }
}

extension UsageEvent {
  fileprivate var identity: DedupeWindow.Identity {
    DedupeWindow.Identity(
      subject: ExactText(subject), source: ExactText(source), id: ExactText(id))
  }

  /// The producer of an event that also has a sequence. Without both, rule (a) and the ledger do
  /// not apply to the event.
  fileprivate var numberedProducer: ExactText? {
    sequence == nil ? nil : producer.map { ExactText($0) }
  }
}
