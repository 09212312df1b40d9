import Foundation

/// How far a long command is: a bar on stderr where that is a terminal, else a plain line every
/// five seconds. `update` may be called as often as one likes; it looks at the clock each time, so
/// call it once a batch.
final class Progress {
  private let title: String
  private let unit: String
  private let total: Int64?
  private let enabled: Bool
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var shown: ContinuousClock.Instant?
  private var shownDone: Int64 = 0
  private var note = ""
  private var lineIsOpen = false

  /// - Parameters:
  ///   - title: what is being done: `Reading the log`.
  ///   - unit: what is counted: `records`.
  ///   - total: nil if unknown.
  ///   - enabled: false shows nothing.
  init(_ title: String, unit: String, total: Int64?, enabled: Bool = true) {
    self.title = title
    self.unit = unit
    self.total = total
    self.enabled = enabled
    start = clock.now
  }

  /// - Parameter note: stands at the line's end, such as `waiting for Kafka`.
  func update(_ done: Int64, note: String = "") {
    guard enabled else { return }
    let now = clock.now
    let pause: Duration = Terminal.errorIsTerminal ? .milliseconds(100) : .seconds(5)
    guard (shown ?? start).duration(to: now) >= pause || note != self.note else { return }
    show(done, note, now)
  }

  /// The last state, and the end of the line. To be called before anything else is printed.
  func finish(_ done: Int64) {
    guard enabled else { return }
    // What was over before the first line was due needs none.
    if shown != nil { show(done, "", clock.now) }
    endLine()
  }

  /// A line of its own, between two states of the bar.
  func say(_ line: String) {
    endLine()
    Terminal.error(line)
  }

  private func endLine() {
    if lineIsOpen { Terminal.write("\n") }
    lineIsOpen = false
  }

  private func show(_ done: Int64, _ note: String, _ now: ContinuousClock.Instant) {
    let since = (shown ?? start).duration(to: now) / .seconds(1)
    let rate = since > 0 ? Int64(Double(done - shownDone) / since) : 0
    shown = now
    shownDone = done
    self.note = note
    var text = "\(title): "
    if let total, total > 0 {
      let share = min(1, max(0, Double(done) / Double(total)))
      if Terminal.errorIsTerminal {
        let filled = Int(share * 30)
        text += "[" + String(repeating: "#", count: filled)
        text += String(repeating: ".", count: 30 - filled) + "] "
      }
      text +=
        "\(Int(share * 100)) %  \(Terminal.grouped(done)) of \(Terminal.grouped(total)) \(unit)"
    } else {
      text += "\(Terminal.grouped(done)) \(unit)"
    }
    text += "  \(Terminal.grouped(rate))/s"
    if !note.isEmpty { text += "  \(note)" }
    if Terminal.errorIsTerminal {
      Terminal.write("\r\u{1B}[K" + text)
      lineIsOpen = true
    } else {
      Terminal.error(text)
    }
  }
}
