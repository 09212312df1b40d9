import Metering

/// Jobs that wait for a thread, in the order in which they came. A customer whose jobs already have
/// their share of the threads waits behind all others.
struct FairQueue<Job> {
  private struct Counts {
    var running = 0
    var waiting = 0
  }

  private var jobs: [(owner: Identifier?, job: Job)] = []
  private var first = 0
  private var counts: [Identifier: Counts] = [:]
  /// How many jobs may wait.
  private let limit: Int
  /// How many jobs of one customer may run at the same time.
  private let share: Int

  init(limit: Int, share: Int) {
    self.limit = limit
    self.share = share
  }

  /// Counts a job that a free thread begins now.
  ///
  /// - Parameter owner: the customer who asks; nil for the vendor and for the service itself.
  /// - Returns: false if the job has to wait, because the owner has its share.
  mutating func begin(_ owner: Identifier?) -> Bool {
    guard let owner else { return true }
    guard counts[owner, default: Counts()].running < share else { return false }
    counts[owner, default: Counts()].running += 1
    return true
  }

  /// Lets a job wait. One owner may use half of the room.
  ///
  /// - Returns: false if too many wait already.
  mutating func append(_ job: Job, of owner: Identifier?) -> Bool {
    guard jobs.count - first < limit else { return false }
    if let owner {
      guard counts[owner, default: Counts()].waiting < max(limit / 2, 1) else { return false }
      counts[owner, default: Counts()].waiting += 1
    }
    jobs.append((owner, job))
    return true
  }

  /// Begins the first job whose owner has not its share. Returns nil if there is none.
  mutating func next() -> Job? {
    guard let place = jobs[first...].firstIndex(where: { begin($0.owner) }) else { return nil }
    let (owner, job) = jobs[place]
    if let owner { counts[owner]?.waiting -= 1 }
    remove(place)
    return job
  }

  /// Ends a job that was begun.
  mutating func finish(_ owner: Identifier?) {
    guard let owner, var left = counts[owner] else { return }
    left.running -= 1
    counts[owner] = left.running == 0 && left.waiting == 0 ? nil : left
  }

  private mutating func remove(_ place: Int) {
    guard place == first else {
      jobs.remove(at: place)
      return
    }
    first += 1
    if first == jobs.count {
      jobs.removeAll(keepingCapacity: true)
      first = 0
    } else if first > 1_024 {
      jobs.removeFirst(first)
      first = 0
    }
  }
}
