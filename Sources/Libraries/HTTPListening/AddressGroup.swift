package import Metering

/// The addresses that count as one client. They are an IPv4 address, or the /64 of an IPv6 address,
/// which a provider gives to a single customer.
package struct AddressGroup: Hashable, Sendable {
  private let bits: UInt64
  private let isV6: Bool

  package init(_ address: IPAddress) {
    isV6 = address.isV6
    bits = address.bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
}
