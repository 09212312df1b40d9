import Metering
import Synchronization

/// A bounded number of places for requests that hold something scarce. One customer has a share of
/// them, and all customers together leave some to the vendor.
final class Places: Sendable {
  private struct Taken {
    var byVendor = 0
    var byCustomer: [Identifier: Int] = [:]
    var byCustomers: Int { byCustomer.values.reduce(0, +) }
  }

  private let taken = Mutex(Taken())
  private let most: Int
  private let mostOfCustomers: Int
  private let mostOfOne: Int

  /// - Parameters:
  ///   - most: the number of places.
  ///   - ofCustomers: how many of them all customers together may take.
  ///   - ofOne: how many of them one customer may take.
  init(most: Int, ofCustomers: Int, ofOne: Int) {
    self.most = most
    mostOfCustomers = ofCustomers
    mostOfOne = ofOne
  }

  /// A place, which is free again once nobody holds this object.
  final class Place: Sendable {
    private let places: Places
    private let customer: Identifier?

    fileprivate init(_ places: Places, _ customer: Identifier?) {
      self.places = places
      self.customer = customer
    }

    deinit { places.give(customer) }
  }

  /// Takes a place, or returns nil if there is none for this caller.
  ///
  /// - Parameter customer: the caller's customer; nil for the vendor.
  func take(for customer: Identifier?) -> Place? {
    let isTaken = taken.withLock { taken in
      let customers = taken.byCustomers
      guard taken.byVendor + customers < most else { return false }
      guard let customer else {
        taken.byVendor += 1
        return true
      }
      let own = taken.byCustomer[customer, default: 0]
      guard own < mostOfOne, customers < mostOfCustomers else { return false }
      taken.byCustomer[customer] = own + 1
      return true
    }
    return isTaken ? Place(self, customer) : nil
  }

  private func give(_ customer: Identifier?) {
    taken.withLock { taken in
      guard let customer else {
        taken.byVendor -= 1
        return
      }
      let left = taken.byCustomer[customer, default: 0] - 1
      taken.byCustomer[customer] = left > 0 ? left : nil
    }
  }
}
