import Foundation
import Recount

/// Lines that became no event. The first ones go to stderr, and all of them into a file if one is
/// named.
final class RejectedLines {
  private static let shown = 20
  private let handle: FileHandle?
  private(set) var count: Int64 = 0
  /// There are few of them, because a reason never quotes the line.
  private var reasons: [String: Int64] = [:]

  /// The reasons, most frequent first.
  var byReason: [(reason: String, count: Int64)] {
    reasons.map { ($0.key, $0.value) }.sorted { ($1.count, $0.reason) < ($0.count, $1.reason) }
  }

  init(file: String?) throws {
    guard let file else {
      handle = nil
      return
    }
    guard FileManager.default.createFile(atPath: file, contents: nil),
      let handle = FileHandle(forWritingAtPath: file)
    else { throw Failure("\(file) cannot be written; --bad-lines must name a file to create") }
    self.handle = handle
  }

  func add(_ number: Int64, _ reason: String, _ line: ArraySlice<UInt8>, _ progress: Progress)
    throws
  {
    count += 1
    reasons[reason, default: 0] += 1
    if count <= Self.shown { progress.say("line \(number): \(reason)") }
    guard let handle else { return }
    var text = Data("\(number)\t\(reason)\t".utf8)
    text.append(contentsOf: line)
    text.append(UInt8(ascii: "\n"))
    try handle.write(contentsOf: text)
  }

  func finish() {
    if count > Self.shown {
      Terminal.error(
        "… and \(count - Int64(Self.shown)) more lines rejected"
          + (handle == nil ? "; --bad-lines FILE writes all of them" : ""))
    }
    for (reason, count) in byReason {
      Terminal.error("rejected \(Terminal.grouped(count)): \(reason)")
    }
  }
}
