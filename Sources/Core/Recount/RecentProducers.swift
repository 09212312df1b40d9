/// The producers that a partition remembers, which are the last `maximum` that were heard.
struct RecentProducers: Sendable {
  let maximum: Int
  private var lastOffset: [ExactText: Int64] = [:]
  /// Every hearing, oldest first, from `oldest` on. Only a producer's last hearing counts.
  private var hearings: [(offset: Int64, producer: ExactText)] = []
  private var oldest = 0

  init(maximum: Int) {
    self.maximum = maximum
  }

  /// Adds producers that were heard before the first record, in the order of their last records.
  mutating func begin(with producers: [ExactText]) {
    for (place, producer) in producers.enumerated() {
      _ = hear(producer, at: Int64(place - producers.count))
    }
  }

  /// - Returns: the producer that makes room for this one, if one must.
  mutating func hear(_ producer: ExactText, at offset: Int64) -> ExactText? {
    let isNew = lastOffset.updateValue(offset, forKey: producer) == nil
    hearings.append((offset, producer))
    var gone: ExactText?
    if isNew, lastOffset.count > maximum {
      dropOutdated()
      gone = hearings[oldest].producer
      lastOffset[hearings[oldest].producer] = nil
    }
    if hearings.count - oldest > 4 * (maximum + lastOffset.count) || oldest > hearings.count / 2 {
      hearings = hearings[oldest...].filter { lastOffset[$0.producer] == $0.offset }
      oldest = 0
    }
    return gone
  }

  private mutating func dropOutdated() {
    while lastOffset[hearings[oldest].producer] != hearings[oldest].offset { oldest += 1 }
  }
}
