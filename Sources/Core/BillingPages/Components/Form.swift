/// A form. A form that changes something is sent by POST and carries the session's CSRF token.
package struct Form: Component {
  package let template = "form"

  struct Field: Sendable {
    let name: String
    let label: String
    let value: String
    let id: String
    let type: String
    let isRequired: Bool
    let hint: String?
    let hasHint: Bool
    let placeholder: String?
    let options: [Option]
    let isSelect: Bool
    let isCheckbox: Bool
    let isText: Bool
    let isLines: Bool
    let isChecked: Bool
    let suggestions: [String]
    let hasSuggestions: Bool
    let isPassword: Bool
  }
  struct Option: Sendable {
    let value: String
    let text: String
    let isSelected: Bool
  }
  struct Hidden: Sendable {
    let name: String
    let value: String
  }

  let action: String
  let method: String
  let button: String
  let isDanger: Bool
  let isInline: Bool
  let isSearch: Bool
  private let id: String
  /// What was entered, if this form was sent and refused.
  let refused: RefusedForm?
  private(set) var hidden: [Hidden] = []
  private(set) var fields: [Field] = []

  /// A form that changes something.
  package init(
    _ button: String, to action: String, id: String, isDanger: Bool = false, isInline: Bool = false,
    in context: PageContext
  ) {
    self.button = button
    self.action = action
    self.id = id
    method = "post"
    refused = context.refused.flatMap { $0.form == id ? $0 : nil }
    self.isDanger = isDanger
    self.isInline = isInline
    isSearch = false
    hide("csrf", context.session?.csrf ?? "")
    if !context.once.isEmpty { hide("once", "\(context.once)-\(id)") }
  }

  /// A form that only changes what the page shows. Other parameters of the address are kept.
  package init(filter button: String, fields names: [String], id: String, in context: PageContext) {
    self.button = button
    self.id = id
    action = context.basePath + context.path
    method = "get"
    refused = nil
    isDanger = false
    isInline = true
    isSearch = true
    for parameter in context.query where parameter.name != "cursor" {
      if !names.contains(parameter.name) { hide(parameter.name, parameter.value) }
    }
  }

  package mutating func hide(_ name: String, _ value: String) {
    hidden.append(Hidden(name: name, value: value))
  }

  /// A field for one line of text. `type` is that of HTML's `input`.
  package mutating func text(
    _ name: String, _ label: String, value: String = "", type: String = "text",
    isRequired: Bool = false, hint: String? = nil, placeholder: String? = nil,
    suggestions: [String] = []
  ) {
    // A secret is never sent back.
    let entered = type == "password" ? nil : refused?.value(name)
    fields.append(
      field(
        name, label, value: entered ?? value, type: type, isRequired: isRequired, hint: hint,
        placeholder: placeholder, suggestions: suggestions))
  }

  /// A field for several lines of text.
  package mutating func lines(
    _ name: String, _ label: String, value: String = "", hint: String? = nil
  ) {
    let value = refused?.value(name) ?? value
    fields.append(field(name, label, value: value, hint: hint, isLines: true))
  }

  package mutating func select(
    _ name: String, _ label: String, value: String, _ options: [(value: String, text: String)],
    hint: String? = nil
  ) {
    let value = refused?.value(name) ?? value
    fields.append(
      field(
        name, label, value: value, hint: hint,
        options: options.map {
          Option(value: $0.value, text: $0.text, isSelected: $0.value == value)
        }))
  }

  package mutating func checkbox(
    _ name: String, _ label: String, value: String = "yes", isChecked: Bool = false,
    hint: String? = nil
  ) {
    let isChecked =
      refused.map { $0.fields.contains { $0.name == name && $0.value == value } } ?? isChecked
    fields.append(
      field(name, label, value: value, hint: hint, isCheckbox: true, isChecked: isChecked))
  }

  private func field(
    _ name: String, _ label: String, value: String, type: String = "text",
    isRequired: Bool = false, hint: String? = nil, placeholder: String? = nil,
    options: [Option] = [], isCheckbox: Bool = false, isChecked: Bool = false,
    isLines: Bool = false, suggestions: [String] = []
  ) -> Field {
    Field(
      name: name, label: label, value: value, id: "\(id)-\(fields.count)", type: type,
      isRequired: isRequired, hint: hint, hasHint: hint != nil, placeholder: placeholder,
      options: options, isSelect: !options.isEmpty, isCheckbox: isCheckbox,
      isText: options.isEmpty && !isCheckbox && !isLines, isLines: isLines, isChecked: isChecked,
      suggestions: suggestions,
      hasSuggestions: !suggestions.isEmpty, isPassword: type == "password")
  }
}
