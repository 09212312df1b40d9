package import Metering

/// The texts of the log, which the recount compares by their bytes. No dictionary of this module
/// has `String` keys (see `Identifier`).
package typealias ExactText = Identifier
