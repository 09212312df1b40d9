package import Metering

/// How the growth of an hour is reported to Stripe.
package enum StripeMode: String, CaseIterable, Sendable {
  /// The growth is sent as a further event. It is for meters that add up all events.
  case sum
  /// The whole hour is sent again. It is for meters whose event time window is an hour, so that the
  /// last event counts.
  case replace
}

/// The state of an exported hour.
///
///     (nothing) ─► pending ─► sent ─► pending …     more was counted
///                     │        └────► credit        less was counted than Stripe has
///                     ├─► refused ─► pending        the next export tries again
///                     └─► unsettled                 no answer, and Stripe's sum fits neither
///     (nothing) ─► unlinked, too_old, too_large, shared
package enum StripeStatus: String, CaseIterable, Sendable {
  /// An event waits to be sent or to be answered.
  case pending
  /// Stripe has what is counted.
  case sent
  /// Stripe has more than is counted, so the vendor should give a credit.
  case credit
  /// The customer has no `stripe_customer_id`.
  case unlinked
  /// Stripe does not accept events from so long ago.
  case tooOld = "too_old"
  /// Stripe takes at most 15 digits.
  case tooLarge = "too_large"
  /// Several customers have the same `stripe_customer_id`, so the last one's hour would replace the
  /// others'.
  case shared
  /// Stripe refused the event.
  case refused
  /// Stripe never answered, and its sum fits neither with the event nor without it.
  case unsettled
}

/// One hour of a customer and a meter, with the counted quantity and the quantity that Stripe has.
package struct StripeHour: Sendable, Equatable {
  /// What was exported for it before.
  package struct Known: Sendable, Equatable {
    package var status: StripeStatus
    package var mode: StripeMode?
    /// The customer and the event name of the events that Stripe accepted.
    package var stripeCustomerID: String?
    package var eventName: String?
    /// The quantity that Stripe has.
    package var accepted: Int64
    /// The number of the last event, or 0 if there was none.
    package var revision: Int64
    package var hasOpenEvent: Bool

    package init(
      status: StripeStatus, mode: StripeMode?, stripeCustomerID: String?, eventName: String?,
      accepted: Int64, revision: Int64, hasOpenEvent: Bool
    ) {
      self.status = status
      self.mode = mode
      self.stripeCustomerID = stripeCustomerID
      self.eventName = eventName
      self.accepted = accepted
      self.revision = revision
      self.hasOpenEvent = hasOpenEvent
    }
  }

  package var customer: Identifier
  package var meter: String
  /// The hour's first second, since 1970.
  package var hour: Int64
  package var quantity: Int64
  package var stripeCustomerID: String?
  /// Whether another customer has the same `stripe_customer_id`.
  package var isShared: Bool
  package var known: Known?

  package init(
    customer: Identifier, meter: String, hour: Int64, quantity: Int64, stripeCustomerID: String?,
    isShared: Bool = false, known: Known? = nil
  ) {
    self.customer = customer
    self.meter = meter
    self.hour = hour
    self.quantity = quantity
    self.stripeCustomerID = stripeCustomerID
    self.isShared = isShared
    self.known = known
  }

  package enum Step: Sendable, Equatable {
    case nothing
    /// There is nothing to send, for this reason.
    case mark(StripeStatus)
    case send(StripeEvent)
  }

  /// What to do about the hour.
  ///
  /// The quantity that Stripe has for an hour does not move. Growth goes to the customer and the
  /// meter of the earlier events and in their mode, even if the settings have changed.
  ///
  /// - Parameters:
  ///   - mode, eventName: they apply to an hour for which Stripe has nothing.
  ///   - now: the time in seconds since 1970.
  package func step(mode: StripeMode, eventName: String, now: Int64) -> Step {
    if let known, known.hasOpenEvent || known.status == .unsettled { return .nothing }
    let accepted = known?.accepted ?? 0
    let isBegun = accepted != 0
    if quantity == accepted { return known == nil ? .nothing : .mark(.sent) }
    let mode = isBegun ? known?.mode ?? mode : mode
    guard let customer = isBegun ? known?.stripeCustomerID : stripeCustomerID else {
      return .mark(.unlinked)
    }
    if mode == .sum, quantity < accepted { return .mark(.credit) }
    if quantity > StripeEvent.largestValue { return .mark(.tooLarge) }
    if !StripeEvent.isSendable(hour: hour, now: now) { return .mark(.tooOld) }
    if mode == .replace, isShared { return .mark(.shared) }
    return .send(
      StripeEvent(
        customer: self.customer, meter: meter, hour: hour, revision: (known?.revision ?? 0) + 1,
        mode: mode, stripeCustomerID: customer,
        eventName: isBegun ? known?.eventName ?? eventName : eventName,
        value: mode == .sum ? quantity - accepted : quantity))
  }
}
