/// A heading within a page.
package struct Heading: Component {
  package let template = "heading"
  let text: String
  let anchor: String
  /// Components beside the heading, for example a link to the whole list.
  let aside: [any Component]
  package init(_ text: String, anchor: String, aside: [any Component] = []) {
    self.text = text
    self.anchor = anchor
    self.aside = aside
  }
}

/// A paragraph. Its parts are joined to one text.
package struct Paragraph: Component {
  package let template = "paragraph"
  let parts: [any Component]
  package init(_ parts: [any Component]) { self.parts = parts }
  package init(_ text: String) { parts = [Plain(text)] }
}

/// The sentence that answers the page's question, in the color of the answer.
package struct Verdict: Component {
  package let template = "verdict"
  let tone: String
  let mark: String
  let parts: [any Component]
  /// The details below it, one line each.
  let details: [Paragraph]
  package init(_ tone: Tone, _ parts: [any Component], details: [Paragraph] = []) {
    self.tone = tone.rawValue
    mark = tone.mark
    self.parts = parts
    self.details = details
  }
}

/// Tells what just happened, or what to know before acting.
package struct Notice: Component {
  package let template = "notice"
  let tone: String
  let parts: [any Component]
  package init(_ tone: Tone, _ parts: [any Component]) {
    self.tone = tone.rawValue
    self.parts = parts
  }
  package init(_ tone: Tone, _ text: String) { self.init(tone, [Plain(text)]) }
}

/// A secret or a link that is shown only once.
package struct ShownOnce: Component {
  package let template = "shown-once"
  let label: String
  let value: String
  let id: String
  package init(label: String, value: String, id: String = "shown-once") {
    self.label = label
    self.value = value
    self.id = id
  }
}

/// Says that there is nothing to show, and how to change that.
package struct Empty: Component {
  package let template = "empty"
  let text: String
  let command: String?
  package init(_ text: String, command: String? = nil) {
    self.text = text
    self.command = command
  }
}

/// A few large numbers side by side.
package struct Cards: Component {
  package let template = "cards"
  struct Card: Sendable {
    let title: String
    let value: any Component
    let details: [any Component]
  }
  private(set) var cards: [Card] = []
  package init() {}
  package mutating func add(
    _ title: String, _ value: any Component, _ details: [any Component] = []
  ) { cards.append(Card(title: title, value: value, details: details)) }
}

/// Names and values.
package struct Facts: Component {
  package let template = "facts"
  struct Fact: Sendable {
    let name: String
    let value: any Component
  }
  private(set) var facts: [Fact] = []
  package init() {}
  package init(_ facts: [(name: String, text: String)]) {
    for fact in facts { add(fact.name, fact.text) }
  }
  package mutating func add(_ name: String, _ value: any Component) {
    facts.append(Fact(name: name, value: value))
  }
  package mutating func add(_ name: String, _ text: String) { add(name, Plain(text)) }
}

/// Sections side by side if there is room.
package struct Columns: Component {
  package let template = "columns"
  struct Column: Sendable { let parts: [any Component] }
  let columns: [Column]
  package init(_ columns: [[any Component]]) { self.columns = columns.map { Column(parts: $0) } }
}

/// Sections that stay folded until the reader opens them. A form that was refused is shown open.
package struct Folded: Component {
  package let template = "folded"
  let title: String
  let parts: [any Component]
  let isOpen: Bool
  let isDanger: Bool
  package init(
    _ title: String, isOpen: Bool = false, isDanger: Bool = false, _ parts: [any Component]
  ) {
    self.title = title
    self.parts = parts
    self.isOpen = isOpen || parts.contains { ($0 as? Form)?.refused != nil }
    self.isDanger = isDanger
  }
}

/// Several lines of code, such as a payload.
package struct CodeBlock: Component {
  package let template = "code-block"
  let text: String
  let label: String
  package init(_ text: String, label: String) {
    self.text = text
    self.label = label
  }
}

/// How to get a page's data elsewhere: as CSV, and with `curl`.
package struct DataLinks: Component {
  package let template = "data-links"
  let csv: String?
  let curl: String

  /// Nil on a customer's own pages, because a customer who follows a link has no token.
  ///
  /// - Parameters:
  ///   - path: the endpoint's path after the prefix. It begins with `/v1/`.
  ///   - parameters: the filters of the page, so that the data are the same.
  package init?(
    _ path: String, _ parameters: [PageContext.Parameter] = [], hasCSV: Bool = true,
    in context: PageContext
  ) {
    if context.isPortal { return nil }
    let plain = context.api(path, parameters)
    csv = hasCSV ? context.csv(path, parameters) : nil
    // The address is percent-encoded, so it contains neither quotation marks nor dollar signs.
    curl = "curl -H \"Authorization: Bearer $TOKEN\" '\(context.origin)\(plain)'"
  }
}

/// Links between views. One of them is the current view.
package struct Choices: Component {
  package let template = "choices"
  struct Choice: Sendable {
    let text: String
    let href: String
    let isCurrent: Bool
  }
  let label: String
  let choices: [Choice]
  package init(
    _ label: String, parameter: String, default first: String,
    _ choices: [(value: String, text: String)], in context: PageContext
  ) {
    self.label = label
    let current = context.value(parameter) ?? first
    self.choices = choices.map {
      Choice(
        text: $0.text,
        href: context.here([(parameter, $0.value == first ? nil : $0.value)]),
        isCurrent: $0.value == current)
    }
  }
}
