import Metering

/// Times as addresses and the API have them.
package enum Time {
  /// `2026-11-27T10:41:00Z`, or with milliseconds where there are some.
  package static func api(_ milliseconds: Int64) -> String {
    let text = UTCTime.text(milliseconds)
    return milliseconds % 1000 == 0 ? "\(text.prefix(19))Z" : text
  }
}
