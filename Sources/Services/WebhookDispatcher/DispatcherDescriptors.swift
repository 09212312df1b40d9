package import ServiceRuntime
package import WebhookDelivery

/// How many descriptors each kind of the dispatcher's work may hold. An endpoint that hangs holds a
/// connection, and a name whose servers are silent holds one or two sockets. Together they must
/// leave enough for PostgreSQL, the admin address, the process itself, and the endpoints that
/// answer.
package struct DispatcherDescriptors: Sendable, Equatable {
  package let requests: Int
  package let lookups: Int
  package let idleConnections: Int

  package init(_ budget: DescriptorBudget) {
    let room = max(32, budget.apiConnections)
    requests = room * 5 / 8
    // A look-up may have a socket for each of two servers.
    lookups = max(4, room / 8 / 2)
    idleConnections = max(4, room / 8)
  }

  /// The slots for requests. If they would not fit, they are reduced in proportion.
  package func fitted<Work>(
    _ limits: DeliveryScheduler<Work>.Limits
  ) -> DeliveryScheduler<Work>.Limits {
    let wanted = limits.fastSlots + limits.slowSlots
    guard wanted > requests else { return limits }
    var fitted = limits
    fitted.fastSlots = max(1, requests * limits.fastSlots / wanted)
    fitted.slowSlots = max(1, requests - fitted.fastSlots)
    return fitted
  }

  package func fitted(_ limits: LookupSchedule.Limits) -> LookupSchedule.Limits {
    let wanted = limits.fastSlots + limits.slowSlots
    guard wanted > lookups else { return limits }
    var fitted = limits
    fitted.fastSlots = max(2, lookups * limits.fastSlots / wanted)
    fitted.reservedSlots = max(1, fitted.fastSlots * limits.reservedSlots / limits.fastSlots)
    fitted.slowSlots = max(1, lookups - fitted.fastSlots)
    return fitted
  }
}
