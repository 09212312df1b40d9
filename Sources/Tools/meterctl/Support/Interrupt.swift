import Glibc
import Synchronization

/// SIGINT and SIGTERM ask a long command to end in good order. A second signal ends it immediately.
enum Interrupt {
  private static let flag = Atomic<Bool>(false)

  static var isRequested: Bool { flag.load(ordering: .relaxed) }

  static func install() {
    // It is made now, because a handler that touched it first would take a lock.
    _ = isRequested
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        if Interrupt.flag.exchange(true, ordering: .relaxed) { _exit(128 + number) }
      }
    }
  }
}
