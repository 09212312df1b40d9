package import Metering

/// The texts of the log, as the recount compares them: by their bytes. No dictionary of this
/// module has `String` keys; `Identifier` says why.
package typealias ExactText = Identifier
