/// A setting with which the service cannot start. The process ends with status 78 (`EX_CONFIG`).
///
/// `description` is one line that names the variable and says what it must contain. It never
/// repeats the value, because somebody may have pasted a key into any variable by mistake.
package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) {
    self.description = LineText.singleLine(description)
  }
}
