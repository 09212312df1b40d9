import Metering

/// A part of a page. `template` names its template in `components.mustache`, which reads the values
/// of the other stored properties. The template escapes all texts.
package protocol Component: Sendable {
  var template: String { get }
}

/// The color of a badge, a sentence or a bar. The words always say the same, for readers who do not
/// see colors.
package enum Tone: String, Sendable {
  case good, warning, bad, quiet

  var mark: String {
    switch self {
    case .good: "✓"
    case .warning: "!"
    case .bad: "✕"
    case .quiet: "·"
    }
  }
}

/// Plain text.
package struct Plain: Component {
  package let template = "plain"
  let text: String
  package init(_ text: String) { self.text = text }
}

/// Text in a quieter color.
package struct Quiet: Component {
  package let template = "quiet"
  let text: String
  package init(_ text: String) { self.text = text }
}

/// Text in bold.
package struct Strong: Component {
  package let template = "strong"
  let text: String
  package init(_ text: String) { self.text = text }
}

package struct Link: Component {
  package let template = "link"
  let text: String
  let href: String
  /// For screen readers, if the text alone does not say where the link leads.
  let label: String?
  package init(_ text: String, to href: String, label: String? = nil) {
    self.text = text
    self.href = href
    self.label = label
  }
}

/// An identifier. The page contains all of it, and one click selects it. A long one is shortened
/// only for the eye. If scripts run, a button copies it.
package struct LongID: Component {
  package let template = "long-id"
  let full: String
  let href: String?
  let isLong: Bool
  package init(_ full: String, to href: String? = nil) {
    self.full = full
    self.href = href
    isLong = full.utf8.count > 26
  }
}

/// A number, aligned to the right of its column.
package struct Quantity: Component {
  package let template = "quantity"
  let text: String
  let isNumber = true
  package init(_ value: Int64) { text = Wording.number(value) }
  package init(_ value: Int64?, orElse text: String) {
    self.text = value.map(Wording.number) ?? text
  }
  /// The number with its sign, for adjustments.
  package init(signed value: Int64) { text = (value > 0 ? "+" : "") + Wording.number(value) }
}

/// A time, shown relative to now. The exact time is there for machines, and appears on hovering.
package struct Moment: Component {
  package let template = "moment"
  let machine: String
  let exact: String
  let text: String

  /// - Parameter time: milliseconds since 1970.
  package init(_ time: Int64, in context: PageContext) {
    machine = Self.machine(time)
    exact = context.zone.exact(time)
    text = Wording.relative(time, now: context.now)
  }

  /// The exact time, for tables of windows and for print.
  package init(exact time: Int64, in context: PageContext) {
    machine = Self.machine(time)
    exact = context.zone.exact(time)
    text = context.zone.minute(time)
  }

  /// Only the day.
  package init(day time: Int64, in context: PageContext) {
    machine = Self.machine(time)
    exact = context.zone.exact(time)
    text = context.zone.day(time)
  }

  private static func machine(_ time: Int64) -> String { UTCTime.text(time) }
}

/// A range of two days. The second is the first day that is no longer in the range.
package struct DateRange: Component {
  package let template = "date-range"
  let start: String
  let startMachine: String
  let startExact: String
  let end: String
  let endMachine: String
  let endExact: String

  /// - Parameters: milliseconds since 1970.
  package init(_ start: Int64, _ end: Int64, in context: PageContext) {
    self.start = context.zone.day(start)
    startMachine = UTCTime.text(start)
    startExact = context.zone.exact(start)
    self.end = context.zone.day(end)
    endMachine = UTCTime.text(end)
    endExact = context.zone.exact(end)
  }
}

package struct Badge: Component {
  package let template = "badge"
  let text: String
  let tone: String
  let mark: String
  package init(_ text: String, _ tone: Tone) {
    self.text = text
    self.tone = tone.rawValue
    mark = tone.mark
  }

  /// The status of a license, an endpoint or a delivery.
  package init(status: String) {
    switch status {
    case "active", "delivered", "closed", "counted": self.init(status, .good)
    case "suspended", "pending", "due", "duplicate": self.init(status, .warning)
    case "failed", "disabled": self.init(status, .bad)
    default: self.init(status, .quiet)
    }
  }
}

/// Code within a line.
package struct Code: Component {
  package let template = "code"
  let text: String
  package init(_ text: String) { self.text = text }
}

/// Several components side by side.
package struct Row: Component {
  package let template = "row"
  let parts: [any Component]
  package init(_ parts: [any Component]) { self.parts = parts }
}

/// Several components, each on its own line.
package struct Lines: Component {
  package let template = "lines"
  let parts: [any Component]
  package init(_ parts: [any Component]) { self.parts = parts }
}

/// How much of a limit is used.
package struct Bar: Component {
  package let template = "bar"
  let percent: String
  /// The whole bar has 100 units.
  let width: String
  let tone: String
  package init(used: Int64, limit: Int64) {
    let percent = limit == 0 && used == 0 ? 0 : Wording.percent(used, of: limit)
    self.percent = Wording.number(percent)
    width = String(min(100, max(0, percent)))
    let tone: Tone = used > limit || percent >= 100 ? .bad : percent >= 80 ? .warning : .good
    self.tone = tone.rawValue
  }
}

extension Bar {
  /// A share of a whole. It is never marked as too much.
  package init(share: Int64, of whole: Int64) {
    let percent = Wording.percent(share, of: whole)
    self.init(percent: percent == 0 && share > 0 ? "under 1" : String(percent), width: percent)
  }

  private init(percent: String, width: Int64) {
    self.percent = percent
    self.width = String(min(100, max(0, width)))
    tone = Tone.good.rawValue
  }
}
