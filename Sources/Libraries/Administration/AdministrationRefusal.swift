package import Licensing

/// Why a requested change was refused. Nothing was changed.
package struct AdministrationRefusal: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Kind: Sendable, Equatable {
    /// The request itself is wrong.
    case invalid
    case notFound
    /// The state forbids it.
    case conflict
    /// The resource has changed since the caller read it.
    case changedMeanwhile
    /// The actor may see the resource but may not change it like this.
    case forbidden
    /// A setting is missing.
    case unavailable
  }

  /// A parameter or member that is wrong.
  package struct Blame: Sendable, Equatable {
    package var parameter: String
    package var detail: String
  }

  package var kind: Kind
  /// A word for programs, such as `license_exists`.
  package var code: String
  /// A text for people that says what is wrong and what to do.
  package var detail: String
  package var errors: [Blame] = []

  package init(_ kind: Kind, _ code: String, _ detail: String, errors: [Blame] = []) {
    self.kind = kind
    self.code = code
    self.detail = detail
    self.errors = errors
  }

  package var description: String { detail }

  package init(_ invalid: LicenseLine.Invalid) {
    self.init(.invalid, "bad_request", "\(invalid)", errors: Self.blames(invalid))
  }

  package static func invalid(_ parameter: String, _ detail: String) -> AdministrationRefusal {
    AdministrationRefusal(LicenseLine.Invalid(parameter, detail))
  }

  package static func noSuch(_ thing: String) -> AdministrationRefusal {
    AdministrationRefusal(.notFound, "not_found", "there is no such \(thing)")
  }

  private static func blames(_ invalid: LicenseLine.Invalid) -> [Blame] {
    invalid.member.isEmpty ? [] : [Blame(parameter: invalid.member, detail: invalid.detail)]
  }
}
