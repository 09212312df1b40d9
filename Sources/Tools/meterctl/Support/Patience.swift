import Dispatch
import Synchronization

/// Says what a command is waiting for, if that takes longer than a second.
enum Patience {
  /// - Parameter what: follows the words "waiting for".
  static func during<T>(_ what: String, _ body: () throws -> T) rethrows -> T {
    let isOver = Mutex(false)
    let start = ContinuousClock.now
    let timer = DispatchSource.makeTimerSource()
    let pause: DispatchTimeInterval = Terminal.errorIsTerminal ? .seconds(1) : .seconds(5)
    timer.schedule(deadline: .now() + .seconds(1), repeating: pause)
    timer.setEventHandler {
      isOver.withLock { isOver in
        guard !isOver else { return }
        let seconds = start.duration(to: .now).components.seconds
        let text = "waiting for \(what), \(seconds) s"
        if Terminal.errorIsTerminal {
          Terminal.write("\r\u{1B}[K" + text)
        } else {
          Terminal.error(text)
        }
      }
    }
    timer.resume()
    defer {
      timer.cancel()
      isOver.withLock { isOver in
        isOver = true
        if Terminal.errorIsTerminal, start.duration(to: .now) > .seconds(1) {
          Terminal.write("\r\u{1B}[K")
        }
      }
    }
    return try body()
  }
}
