import Dispatch
import HTTPListening
import Metering
import NIOHTTP1
import ServiceRuntime
import Synchronization

/// The rate limits. A request beyond the rate waits before it is answered.
extension ValidationAPI {
  struct AnonymousKey: Hashable {
    var license: Identifier
    var client: AddressGroup?
  }

  struct AddressKey: Hashable {
    var client: AddressGroup?
    var isForUnknown: Bool
  }

  func charge(
    _ key: some Hashable, _ rate: RateLimiter.Rate, cost: Int = 1
  ) -> Int64 {
    limiter.delay(
      key, rate, cost: cost, now: Int64(DispatchTime.now().uptimeNanoseconds / 1_000))
  }

  /// Counts a request once, and makes it wait if `charge` says so.
  func count(_ gathered: Gathered, _ charge: () -> Int64) throws {
    if !gathered.isCounted { try pause(charge(), .rate) }
  }

  /// A caller that asks for many licenses that do not exist waits before the next one is looked up.
  func limitLookups(
    _ id: Identifier, _ client: ClientAddress.Client, _ gathered: Gathered
  ) throws {
    guard !gathered.hasWaitedForUnknown, gathered.licenses[id] == nil,
      directory.licenses.cached(id) == nil
    else { return }
    let key = AddressKey(client: client.group, isForUnknown: true)
    try pause(charge(key, settings.unknownRate, cost: 0), .lookup)
  }

  /// Invented ids evade the limit per license, so they have their own limit.
  func limitUnknown(_ client: ClientAddress.Client, _ gathered: Gathered) throws {
    if gathered.isUnknownCounted { return }
    let key = AddressKey(client: client.group, isForUnknown: true)
    let microseconds = charge(key, settings.unknownRate)
    if !gathered.hasWaitedForUnknown { try pause(microseconds, .unknown) }
  }

  private func pause(_ microseconds: Int64, _ pause: Pause) throws {
    guard microseconds >= 1_000 else { return }
    metrics.delayed.increment()
    guard delayed.add(1, ordering: .relaxed).newValue <= settings.maximumDelayed else {
      delayed.subtract(1, ordering: .relaxed)
      throw Problem(
        status: .tooManyRequests, code: "too_many_requests",
        detail: "Too many requests are waiting already. Try again later.",
        headers: [("retry-after", "5")])
    }
    throw Need.pause(microseconds, pause)
  }
}
