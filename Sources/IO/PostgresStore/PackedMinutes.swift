/// The text of the column `minutes` of a stored hour: `[minute,quantity,events]`, separated by
/// commas, such as `[0,5,2],[59,1,1]`. A minute can occur several times until it is compacted.
package enum PackedMinutes {
  package struct Minute: Sendable, Equatable {
    /// The minute within its hour, from 0 to 59.
    package var minute: Int64
    package var quantity: Int64
    package var events: Int64

    package init(minute: Int64, quantity: Int64, events: Int64) {
      self.minute = minute
      self.quantity = quantity
      self.events = events
    }
  }

  /// Returns nil if the text is anything else.
  package static func parse(_ text: some Sequence<UInt8>) -> [Minute]? {
    var bytes = text.makeIterator()
    /// A number without a sign, and the byte after it.
    func number() -> (value: Int64, next: UInt8)? {
      var value: Int64 = 0
      var digits = 0
      while let byte = bytes.next() {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else {
          return digits > 0 ? (value, byte) : nil
        }
        let (tenfold, isBeyond) = value.multipliedReportingOverflow(by: 10)
        let (sum, isToo) = tenfold.addingReportingOverflow(Int64(byte & 15))
        if isBeyond || isToo { return nil }
        value = sum
        digits += 1
      }
      return nil
    }
    var minutes: [Minute] = []
    guard var open = bytes.next() else { return minutes }
    while open == UInt8(ascii: "[") {
      guard let minute = number(), minute.next == UInt8(ascii: ","), minute.value < 60,
        let quantity = number(), quantity.next == UInt8(ascii: ","),
        let events = number(), events.next == UInt8(ascii: "]")
      else { return nil }
      minutes.append(
        Minute(minute: minute.value, quantity: quantity.value, events: events.value))
      guard let comma = bytes.next() else { return minutes }
      guard comma == UInt8(ascii: ","), let next = bytes.next() else { return nil }
      open = next
    }
    return nil
  }
}
