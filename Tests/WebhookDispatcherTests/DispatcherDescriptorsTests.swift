import ServiceRuntime
import Testing
import WebhookDelivery
import WebhookDispatcher

@Suite struct DispatcherDescriptorsTests {
  @Test(
    "Requests, look-ups and idle connections fit into the limit together, with a reserve",
    arguments: [256, 512, 1_024, 4_096, 65_536])
  func fits(_ limit: Int) {
    let whole = DescriptorBudget(limit: limit, open: 40)
    let budget = DispatcherDescriptors(whole)
    let requests = budget.fitted(DeliveryScheduler<Int>.Limits())
    let lookups = budget.fitted(LookupSchedule.Limits())
    let most =
      requests.fastSlots + requests.slowSlots + 2 * (lookups.fastSlots + lookups.slowSlots)
      + budget.idleConnections
    #expect(most <= whole.apiConnections + 16)
    #expect(requests.fastSlots >= 1 && requests.slowSlots > requests.fastSlots)
    #expect(lookups.fastSlots > lookups.reservedSlots && lookups.slowSlots >= 1)
  }

  @Test("A limit that is large enough changes nothing")
  func unchanged() {
    let budget = DispatcherDescriptors(DescriptorBudget(limit: 65_536, open: 40))
    #expect(budget.fitted(DeliveryScheduler<Int>.Limits()).fastSlots == 512)
    #expect(budget.fitted(LookupSchedule.Limits()).slowSlots == 256)
  }

  @Test("Whatever is configured, a few of each can begin")
  func small() {
    var limits = DeliveryScheduler<Int>.Limits()
    limits.fastSlots = 8_192
    limits.slowSlots = 16_384
    let fitted = DispatcherDescriptors(DescriptorBudget(limit: 0, open: 0)).fitted(limits)
    #expect(fitted.fastSlots >= 1 && fitted.slowSlots >= 1)
  }
}
