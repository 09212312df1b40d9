import ArgumentParser
import Glibc
import Metering
import Recount

/// `--json`, of all commands that read.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print JSON on stdout, for programs.")
  var json = false

  /// The document where `--json` was given, else the text, of which nothing drives the terminal.
  func print(_ document: JSON, text: @autoclosure () -> String) {
    Swift.print(json ? document.pretty : Terminal.printable(text(), keepingLines: true))
  }
}

/// `--yes`, of all commands that cannot be undone.
struct ConfirmationOptions: ParsableArguments {
  @Flag(help: "Do it without asking.")
  var yes = false

  /// Returns where the answer is yes.
  ///
  /// - Parameter action: what will happen, as a statement: `Every partition starts anew.`
  /// - Throws: `Failure` where it is no, or where nobody can be asked.
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

/// A moment, by RFC 3339: `2026-11-23T18:40:00Z`; a date alone is its first moment, UTC.
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

  /// RFC 3339 in UTC; the fraction only where it is not 0.
  var description: String { UTCTime.brief(milliseconds) }
}
