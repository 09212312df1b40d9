import Foundation
import Logging
import Metering
import Synchronization

/// A swift-log handler that passes on each event as one finished line, including its newline.
///
/// Values are escaped and cut at 8,192 characters, so an event is one line whatever a customer put
/// into it. The caller is blocked during the write: a buffer would lose the lines that explain a
/// crash, and the hot path does not log.
struct LineLogHandler: LogHandler {
  let service: String
  let label: String
  let format: LogFormat
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?
  let write: @Sendable (String) -> Void

  init(
    service: String, label: String, format: LogFormat, logLevel: Logger.Level,
    metadataProvider: Logger.MetadataProvider?, write: @escaping @Sendable (String) -> Void
  ) {
    self.service = service
    self.label = label
    self.format = format
    self.logLevel = logLevel
    self.metadataProvider = metadataProvider
    self.write = write
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    write(line(event, at: UTCTime.text(WallClock.milliseconds)))
  }

  /// The line for `event`; `time` is RFC 3339.
  func line(_ event: LogEvent, at time: String) -> String {
    // The most specific value wins: the call's, then the task's, then the logger's.
    var fields = metadata
    if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
    if let own = event.metadata { fields.merge(own) { $1 } }
    if let error = event.error, fields["error"] == nil { fields["error"] = "\(error)" }
    let sorted = fields.sorted { $0.key < $1.key }
    switch format {
    case .text: return textLine(event, time, sorted)
    case .json: return jsonLine(event, time, sorted)
    }
  }

  private func textLine(
    _ event: LogEvent, _ time: String, _ fields: [(key: String, value: Logger.MetadataValue)]
  ) -> String {
    var line = "\(time) \(event.level.rawValue) \(LineText.singleLine(service)) "
    line.append(LineText.singleLine(event.message.description))
    if label != service {
      line.append(" logger=")
      LineText.appendWord(label, to: &line)
    }
    for (key, value) in fields {
      line.append(" ")
      LineText.appendWord(key, to: &line)
      line.append("=")
      if case .string(let text) = value {
        LineText.appendWord(text, to: &line)
      } else {
        LineText.appendWord(value.description, to: &line)
      }
    }
    line.append("\n")
    return line
  }

  private static let ownFields: Set<String> = ["time", "level", "service", "logger", "message"]

  private func jsonLine(
    _ event: LogEvent, _ time: String, _ fields: [(key: String, value: Logger.MetadataValue)]
  ) -> String {
    var line = "{\"time\":\"\(time)\",\"level\":\"\(event.level.rawValue)\",\"service\":"
    LineText.appendJSON(service, to: &line)
    line.append(",\"logger\":")
    LineText.appendJSON(label, to: &line)
    line.append(",\"message\":")
    LineText.appendJSON(event.message.description, to: &line)
    for (key, value) in fields {
      line.append(",")
      // Consumers disagree about a name that occurs twice in one object (RFC 8259, section 4).
      LineText.appendJSON(Self.ownFields.contains(key) ? "metadata.\(key)" : key, to: &line)
      line.append(":")
      Self.appendJSON(value, to: &line)
    }
    line.append("}\n")
    return line
  }

  private static func appendJSON(_ value: Logger.MetadataValue, to line: inout String) {
    switch value {
    case .string(let text):
      LineText.appendJSON(text, to: &line)
    case .stringConvertible(let object):
      // Numbers stay numbers, so that a log store can compare them.
      switch object {
      case let number as any BinaryInteger: line.append(String(describing: number))
      case let flag as Bool: line.append(flag ? "true" : "false")
      case let number as Double where number.isFinite: line.append(number.description)
      default: LineText.appendJSON(object.description, to: &line)
      }
    case .array(let values):
      line.append("[")
      for (index, element) in values.enumerated() {
        if index > 0 { line.append(",") }
        appendJSON(element, to: &line)
      }
      line.append("]")
    case .dictionary(let fields):
      line.append("{")
      for (index, field) in fields.sorted(by: { $0.key < $1.key }).enumerated() {
        if index > 0 { line.append(",") }
        LineText.appendJSON(field.key, to: &line)
        line.append(":")
        appendJSON(field.value, to: &line)
      }
      line.append("}")
    }
  }
}

/// Standard error, one line at a time: lines of several threads are never mixed.
enum StandardError {
  private static let lock = Mutex(())

  /// Writes the whole `line`. If the descriptor is closed or would block, the line is dropped,
  /// because logging must never stop the service.
  @Sendable static func write(_ line: String) {
    var line = line
    lock.withLock { _ in
      line.withUTF8 { bytes in
        var rest = UnsafeRawBufferPointer(bytes)[...]
        while !rest.isEmpty {
          let part = UnsafeRawBufferPointer(rebasing: rest)
          let count = Foundation.write(STDERR_FILENO, part.baseAddress, part.count)
          if count < 0 {
            if errno == EINTR { continue }
            return
          }
          rest = rest.dropFirst(count)
        }
      }
    }
  }
}
