/// A setting that the service cannot start with; the process ends with status 78 (`EX_CONFIG`).
///
/// `description` is one line that names the variable and what it must hold. It never repeats the
/// value: nobody can tell from a variable's name whether a key was pasted into it by mistake.
package struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) {
    self.description = LineText.singleLine(description)
  }
}
