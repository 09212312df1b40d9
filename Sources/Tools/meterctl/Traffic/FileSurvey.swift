import Foundation
import Metering
import PostgresStore
import Recount

/// The first pass: the file's digest, its number of lines, and their times.
struct FileSurvey {
  private(set) var hash = ""
  private(set) var lines: Int64 = 0
  private(set) var oldest = Moment(milliseconds: 0)
  /// Later lines are not accepted. The aggregator allows a clock to be an hour ahead.
  let latest = Moment(milliseconds: Moment.now.milliseconds + 3_600_000)

  init(_ command: ImportLog, _ store: ImportStore) throws {
    hash = try Self.digest(command.file, store)
    let reader = try LineReader(
      path: command.file, maximumBytes: 1 << 20, skipsLeadingNULs: true)
    let progress = Progress("Reading", unit: "bytes", total: reader.fileBytes)
    var found: Int64?
    var firstRefusal = ""
    while let line = try reader.next() {
      lines += 1
      if lines & 1_023 == 0 {
        if Interrupt.isRequested { throw Failure("interrupted: nothing was sent") }
        progress.update(reader.bytesRead)
      }
      guard case .bytes(let bytes) = line else { continue }
      do throws(AccessLogEvent.Refusal) {
        let event = try AccessLogEvent.parse(
          bytes, format: command.format, licenseFrom: command.licenseFrom)
        found = min(found ?? .max, event.timeMilliseconds)
      } catch {
        if firstRefusal.isEmpty { firstRefusal = "; line \(lines): \(error)" }
      }
    }
    progress.finish(reader.bytesRead)
    guard let found else {
      throw Failure(
        "\(command.file) has no line of the format \(command.format.rawValue)\(firstRefusal)")
    }
    oldest = command.oldest ?? Moment(milliseconds: found)
  }

  private static func digest(_ path: String, _ store: ImportStore) throws -> String {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw Failure("\(path) cannot be read")
    }
    defer { try? handle.close() }  // Only read from: nothing can be lost.
    var link: [UInt8] = []
    while true {
      guard let chunk = try handle.read(upToCount: 1 << 20), !chunk.isEmpty else { break }
      link = try store.chain(link, Array(chunk))
      if Interrupt.isRequested { throw Failure("interrupted: nothing was sent") }
    }
    guard !link.isEmpty else { throw Failure("\(path) is empty") }
    return Hexadecimal.text(link)
  }
}
