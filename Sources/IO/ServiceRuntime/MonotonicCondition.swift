import Foundation

/// A lock with a condition whose waits are bounded by the monotonic clock.
///
/// Foundation's `NSCondition.wait(until:)` and Dispatch's semaphores wait for a time of day. If
/// somebody sets the clock back by an hour, a wait of 100 ms takes an hour longer, and the thread
/// stands still for as long.
///
/// `@unchecked Sendable`: both pointers are set once, and pthread's calls are safe on any thread.
package final class MonotonicCondition: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  package init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  package func lock() { pthread_mutex_lock(mutex) }
  package func unlock() { pthread_mutex_unlock(mutex) }
  package func signal() { pthread_cond_signal(condition) }
  package func broadcast() { pthread_cond_broadcast(condition) }

  /// - Precondition: the caller holds the lock.
  package func wait() { pthread_cond_wait(condition, mutex) }

  /// Waits until it is signaled, or until `Monotonic.milliseconds` has reached `end`.
  ///
  /// - Precondition: the caller holds the lock.
  /// - Returns: false if the time is over.
  package func wait(until end: Int) -> Bool {
    let left = end - Monotonic.milliseconds
    guard left > 0 else { return false }
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let nanoseconds = time.tv_nsec + left % 1_000 * 1_000_000
    time.tv_sec += left / 1_000 + nanoseconds / 1_000_000_000
    time.tv_nsec = nanoseconds % 1_000_000_000
    return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
  }
}
