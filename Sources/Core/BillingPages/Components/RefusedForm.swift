/// A form that was sent and refused. Its page shows it again with what was entered.
package struct RefusedForm: Sendable {
  /// The id that the form has on its page. Nil if it is unknown.
  package var form: String?
  package var fields: [(name: String, value: String)]
  /// What is wrong, in one sentence. Nil if `errors` say all of it.
  package var detail: String?
  /// The fields that are wrong.
  package var errors: [(field: String, detail: String)]

  package init(
    form: String?, fields: [(name: String, value: String)], detail: String?,
    errors: [(field: String, detail: String)]
  ) {
    self.form = form
    self.fields = fields
    self.detail = detail
    self.errors = errors
  }

  func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }

  /// Says at the top of the page what is wrong, with the labels of the form's fields.
  func notice(on sections: [any Component]) -> Notice {
    let shown = Self.form(in: sections)
    var parts: [any Component] = [Plain("Nothing was changed. ")]
    if let detail { parts.append(Plain(detail + " ")) }
    for error in errors where detail == nil {
      let field = shown?.fields.first { $0.name == error.field }
      parts += [Strong((field?.label ?? error.field) + ": "), Plain(error.detail + " ")]
    }
    let first = shown?.fields.first { field in errors.contains { $0.field == field.name } }
    if let place = first ?? shown?.fields.first {
      parts.append(Link("Go to the form", to: "#" + place.id))
    }
    return Notice(.bad, parts)
  }

  /// The form that was refused. It may lie within sections that are folded or side by side.
  private static func form(in sections: [any Component]) -> Form? {
    for section in sections {
      let found: Form? =
        switch section {
        case let form as Form: form.refused == nil ? nil : form
        case let folded as Folded: form(in: folded.parts)
        case let columns as Columns: form(in: columns.columns.flatMap(\.parts))
        default: nil
        }
      if let found { return found }
    }
    return nil
  }
}
