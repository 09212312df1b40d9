import Foundation

/// The progress of a long command: a bar on stderr if that is a terminal, otherwise a plain line
/// every five seconds. `update` may be called any number of times. It reads the clock each time, so
/// call it once for each batch.
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
  ///   - title: the activity, such as `Reading the log`.
  ///   - unit: what is counted, such as `records`.
  ///   - total: nil if unknown.
  ///   - enabled: false shows nothing.
  init(_ title: String, unit: String, total: Int64?, enabled: Bool = true) {
    self.title = title
    self.unit = unit
    self.total = total
    self.enabled = enabled
    start = clock.now
  }

  /// - Parameter note: shown at the end of the line, such as `waiting for Kafka`.
  func update(_ done: Int64, note: String = "") {
    guard enabled else { return }
    let now = clock.now
    let pause: Duration = Terminal.errorIsTerminal ? .milliseconds(100) : .seconds(5)
    guard (shown ?? start).duration(to: now) >= pause || note != self.note else { return }
    show(done, note, now)
  }

  /// Shows the last state and ends the line. Call it before anything else is printed.
  func finish(_ done: Int64) {
    guard enabled else { return }
    // If it was over before the first line was due, nothing is shown.
    if shown != nil { show(done, "", clock.now) }
    endLine()
  }

  /// A separate line between two states of the bar.
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
