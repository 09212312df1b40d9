import Foundation

/// A thread of its own for work that blocks: libpq's answers never hold a thread of the cooperative pool.
final class WorkerThread: Sendable {
  private let finished = DispatchSemaphore(value: 0)

  init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread { [finished] in
      body()
      finished.signal()
    }
    thread.name = name
    thread.stackSize = 2 << 20
    thread.start()
  }

  /// Waits until the body has returned; false if it did not within the time.
  func join(seconds: Double) -> Bool {
    guard finished.wait(timeout: .now() + seconds) == .success else { return false }
    finished.signal()
    return true
  }
}

/// Lets a thread sleep until there is something to do, or until it is to stop. Wake-ups that come while nobody sleeps are kept, as one.
final class Wakeup: @unchecked Sendable {
  // Every access to the flags holds the condition's lock.
  private let condition = NSCondition()
  private var isAwake = false
  private var isStopping = false

  func wake() {
    condition.lock()
    isAwake = true
    condition.signal()
    condition.unlock()
  }

  func stop() {
    condition.lock()
    isStopping = true
    condition.broadcast()
    condition.unlock()
  }

  var isStopped: Bool {
    condition.lock()
    defer { condition.unlock() }
    return isStopping
  }

  /// Returns when woken, stopped or after the time; true while it goes on.
  @discardableResult
  func sleep(milliseconds: Int) -> Bool {
    let end = Date(timeIntervalSinceNow: Double(milliseconds) / 1_000)
    condition.lock()
    defer { condition.unlock() }
    while !isAwake, !isStopping, condition.wait(until: end) {}
    isAwake = false
    return !isStopping
  }

  /// Sleeps whether woken or not; true while it goes on.
  func pause(milliseconds: Int) -> Bool {
    let end = Date(timeIntervalSinceNow: Double(milliseconds) / 1_000)
    condition.lock()
    defer { condition.unlock() }
    while !isStopping, condition.wait(until: end) {}
    return !isStopping
  }
}

/// Monotonic, for intervals; and the wall clock, for timestamps.
enum Clock {
  static var monotonicMilliseconds: Int64 {
    Int64(DispatchTime.now().uptimeNanoseconds / 1_000_000)
  }

  static var wallMilliseconds: Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }
}
