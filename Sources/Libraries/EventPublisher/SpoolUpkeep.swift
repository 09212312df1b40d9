import Foundation
import Logging
import Synchronization

/// Does the work for the spool that an append must not wait for. It makes files, writes to the
/// disk, and logs dropped events.
///
/// The spool wakes it, and so does a timer of the monotonic clock once a second. A semaphore's wait
/// with a time limit would end at a time of day. If the clock was set back by an hour, nothing
/// would be written to the disk and a full spool would not grow for an hour.
final class SpoolUpkeep: Sendable {
  private let spool: Spool
  private let syncs: Bool
  private let logger: Logger
  private let isStopping = Atomic<Bool>(false)
  private let drops = Atomic<Int64>(0)
  private let finished = DispatchSemaphore(value: 0)

  init(spool: Spool, syncs: Bool, logger: Logger) {
    self.spool = spool
    self.syncs = syncs
    self.logger = logger
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "spool-upkeep"
    thread.start()
  }

  /// Notes that there was no room for an event.
  func noteDrop() { drops.add(1, ordering: .relaxed) }

  func stop() {
    isStopping.store(true, ordering: .releasing)
    spool.wakeUpkeep.signal()
    finished.wait()
    finished.signal()
  }

  private func run() {
    let everySecond = DispatchSource.makeTimerSource()
    everySecond.setEventHandler { [spool] in spool.wakeUpkeep.signal() }
    everySecond.schedule(deadline: .now() + 1, repeating: 1)
    everySecond.resume()
    defer { everySecond.cancel() }
    var problem: SpoolError?
    var nextSync = DispatchTime.now() + 1
    var nextWord = DispatchTime.now()
    while !isStopping.load(ordering: .acquiring) {
      spool.wakeUpkeep.wait()
      let found = spool.prepare()
      if let found, found != problem {
        logger.error("the spool cannot grow", metadata: ["reason": "\(found)"])
      }
      problem = found
      if syncs, DispatchTime.now() >= nextSync {
        spool.sync()
        nextSync = .now() + 1
      }
      if DispatchTime.now() >= nextWord, drops.load(ordering: .relaxed) > 0 {
        logger.error(
          "the spool is full, so events are dropped",
          metadata: [
            "dropped": .stringConvertible(drops.exchange(0, ordering: .relaxed)),
            "pending": .stringConvertible(spool.pending),
          ])
        nextWord = .now() + 10
      }
    }
  }
}
