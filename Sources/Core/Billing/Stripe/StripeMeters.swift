import Metering

/// The meters that are exported, each with its event name at Stripe, from `METER_STRIPE_METERS`.
package struct StripeMeters: Sendable, Equatable {
  package struct Invalid: Error, Equatable, CustomStringConvertible {
    package let description: String
  }

  /// Event names by meter.
  package let eventNames: [String: String]

  package var meters: [String] { eventNames.keys.sorted() }

  /// - Parameter text: `meter=event_name,…`. An empty text stands for no meters.
  /// - Throws: `Invalid` with one line that does not name the variable.
  package init(_ text: String) throws(Invalid) {
    var names: [String: String] = [:]
    for part in text.split(separator: ",") {
      let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        .map { String($0.drop { $0 == " " }) }
      guard sides.count == 2 else { throw Invalid(description: "must be meter=event_name,…") }
      let (meter, name) = (sides[0], sides[1])
      guard MeterName.isValid(meter) else {
        throw Invalid(description: "\(meter.prefix(80)) is not a valid name of a meter")
      }
      guard Self.isEventName(name) else {
        throw Invalid(
          description: "the event name of \(meter) must have 1 to 100 visible characters")
      }
      // Two meters with the same event name could not be told apart in Stripe's answers.
      guard names[meter] == nil, !names.values.contains(where: { $0.utf8.elementsEqual(name.utf8) })
      else {
        throw Invalid(
          description: "each meter and each event name must be given once, but \(name) occurs twice"
        )
      }
      names[meter] = name
    }
    eventNames = names
  }

  private static func isEventName(_ name: String) -> Bool {
    (1...100).contains(name.utf8.count) && name.utf8.allSatisfy { (0x21...0x7E).contains($0) }
  }
}
