/// Whether everything is being counted, for the first sentence of the overview.
package struct Health: Sendable {
  package struct Halt: Sendable {
    package var topic: String
    package var partition: Int64
    package var reason: String
    package var remedy: String?

    package init(topic: String, partition: Int64, reason: String, remedy: String?) {
      self.topic = topic
      self.partition = partition
      self.reason = reason
      self.remedy = remedy
    }
  }

  /// Records in the log that are not counted yet; nil if the log cannot be asked.
  package var lag: Int64?
  /// In milliseconds since 1970; nil before anything was counted.
  package var completeThrough: Int64?
  package var missing: Int64
  package var deadLetters: Int64
  package var halts: [Halt]
  /// Whether anything was counted, even if it is not known up to when.
  package var hasUsage: Bool
  /// The reason why the log cannot be asked.
  package var logProblem: String?

  package init(
    lag: Int64?, completeThrough: Int64?, missing: Int64, deadLetters: Int64, halts: [Halt],
    hasUsage: Bool = false, logProblem: String? = nil
  ) {
    self.hasUsage = hasUsage
    self.logProblem = logProblem
    self.lag = lag
    self.completeThrough = completeThrough
    self.missing = missing
    self.deadLetters = deadLetters
    self.halts = halts
  }

  /// Counting is behind if the numbers are older than this.
  private static let behindMilliseconds: Int64 = 60_000

  /// One sentence in plain words, and a line for everything that is wrong.
  package func verdict(in context: PageContext) -> Verdict {
    var details: [Paragraph] = []
    for halt in halts.prefix(3) {
      details.append(
        Paragraph(
          [
            Plain("Partition \(halt.partition) of "), Code(halt.topic),
            Plain(" stands still: \(halt.reason) "),
          ] + (halt.remedy.map { [Plain("This ends it: "), Code($0)] as [any Component] } ?? [])))
    }
    if deadLetters > 0 {
      details.append(
        Paragraph([
          Plain(
            "\(Wording.count(deadLetters, "record")) could not be counted. "),
          Link("See why", to: context.url("/dead-letters")),
        ]))
    }
    return Verdict(tone(in: context), sentence(in: context), details: details)
  }

  private func tone(in context: PageContext) -> Tone {
    if missing > 0 || !halts.isEmpty { return .bad }
    return isBehind(in: context) || deadLetters > 0 || completeThrough == nil ? .warning : .good
  }

  private func isBehind(in context: PageContext) -> Bool {
    completeThrough.map { context.now - $0 > Self.behindMilliseconds } ?? true
  }

  private func sentence(in context: PageContext) -> [any Component] {
    guard let completeThrough else {
      if hasUsage || missing > 0 || !halts.isEmpty { return unknown(in: context) }
      return [
        Plain("Nothing has been counted yet: no aggregator has read the log. Start one with "),
        Code("usage-aggregator"), Plain("."),
      ]
    }
    let time = Moment(completeThrough, in: context)
    var parts: [any Component] = []
    if missing > 0 {
      parts = [
        Plain("\(Wording.count(missing, "event")) that producers accepted "),
        Plain(missing == 1 ? "is missing. " : "are missing. "),
        Link("See which producers", to: context.url("/events") + "#producers"), Plain(" "),
      ]
    }
    if !halts.isEmpty {
      parts += [
        Plain("\(Wording.count(Int64(halts.count), "partition")) "),
        Plain(halts.count == 1 ? "stands still, so its" : "stand still, so their"),
        Plain(" events are not counted. The numbers are complete through "), time, Plain("."),
      ]
    } else if isBehind(in: context) {
      parts += [
        Plain("Counting is behind: the numbers are complete through "), time,
        Plain(lag.map { ", and \(Wording.count($0, "event")) wait to be counted." } ?? "."),
      ]
    } else if missing > 0 {
      parts += [
        Plain(
          deadLetters == 0
            ? "All others are counted through "
            : "All others that can be counted are counted through "),
        time, Plain("."),
      ]
    } else if deadLetters > 0 {
      parts += [
        Plain("Everything is counted except \(Wording.count(deadLetters, "record")). "),
        Plain("The other numbers are complete through "), time, Plain("."),
      ]
    } else {
      parts += [
        Plain("Everything is counted. The numbers are complete through "), time,
        Plain(" and nothing is missing."),
      ]
    }
    return parts
  }

  /// There are numbers, but nobody knows up to when they are complete.
  private func unknown(in context: PageContext) -> [any Component] {
    var parts: [any Component] = [
      Plain("It is not known up to when the numbers are complete, because "),
      Plain(logProblem.map { "Kafka cannot be asked: \($0)." } ?? "Kafka was not asked yet."),
    ]
    if missing > 0 {
      let events = Wording.count(missing, "event")
      parts.append(
        Plain(" \(events) that producers accepted \(missing == 1 ? "is" : "are") missing."))
    }
    if !halts.isEmpty {
      let partitions = Wording.count(Int64(halts.count), "partition")
      parts.append(Plain(" \(partitions) \(halts.count == 1 ? "stands" : "stand") still."))
    }
    return parts
  }
}
