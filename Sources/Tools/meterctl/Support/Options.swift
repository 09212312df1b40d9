import ArgumentParser
import Glibc
import Metering
import Recount

/// `--json`, which all commands that read have.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print JSON on stdout, for programs.")
  var json = false

  /// Prints the document if `--json` was given, otherwise the text. Nothing in the text can control
  /// the terminal.
  func print(_ document: JSON, text: @autoclosure () -> String) {
    Swift.print(json ? document.pretty : Terminal.printable(text(), keepingLines: true))
  }
}

/// `--yes`, which all commands that cannot be undone have.
struct ConfirmationOptions: ParsableArguments {
  @Flag(help: "Do it without asking.")
  var yes = false

  /// Returns if the answer is yes.
  ///
  /// - Parameter action: what will happen, as a statement: `Every partition starts over.`
  /// - Throws: `Failure` if the answer is no, or if nobody can be asked.
  func confirm(_ action: String) throws {
    if yes { return }
    guard Terminal.inputIsTerminal else {
      throw Failure("\(action) Nothing was done; repeat the command with --yes to do it.")
    }
    Terminal.write("\(action) Continue? [y/N] ")
    guard let answer = readLine()?.lowercased(), answer == "y" || answer == "yes" else {
      throw Failure("nothing was done")
    }
  }
}

/// A moment in RFC 3339, such as `2026-11-23T18:40:00Z`. A date alone is its first moment in UTC.
struct Moment: ExpressibleByArgument, Hashable, Comparable, Sendable, CustomStringConvertible {
  var milliseconds: Int64

  init(milliseconds: Int64) { self.milliseconds = milliseconds }

  init?(argument: String) {
    let text = argument.utf8.count == 10 ? argument + "T00:00:00Z" : argument
    guard let value = millisecondsFromRFC3339(Array(text.utf8)) else { return nil }
    milliseconds = value
  }

  static func < (a: Self, b: Self) -> Bool { a.milliseconds < b.milliseconds }

  static var now: Moment {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Moment(milliseconds: Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000)
  }

  var defaultValueDescription: String { description }

  /// RFC 3339 in UTC, without a fraction of 0.
  var description: String { UTCTime.brief(milliseconds) }
}
