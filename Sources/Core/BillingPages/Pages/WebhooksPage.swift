import Metering

/// Webhook endpoints with their health.
package enum WebhooksPage {
  package struct Secret: Sendable {
    package var url: String
    package var secret: String

    package init(url: String, secret: String) {
      self.url = url
      self.secret = secret
    }
  }

  /// The parameters of the address that choose the deliveries.
  package static let deliveryFilters = ["status"]

  /// - Parameter secret: the secret of an endpoint that was just made. It is shown only once.
  package static func make(
    _ endpoints: [EndpointLine], next: String?, deliveries: [DeliveryLine], secret: Secret? = nil,
    notice: Notice? = nil, in context: PageContext
  ) -> Page {
    var page = Page("Webhooks", place: "/webhooks")
    if let notice { page.add(notice) }
    if let secret { page.add(secret.shown) }
    page.add(EndpointLine.table(endpoints, caption: "Endpoints", next: next, in: context))
    page.add(DataLinks("/v1/webhook-endpoints", in: context))
    if context.may(.webhooksWrite) { add(to: &page, in: context) }
    page.add(Heading("Last deliveries", anchor: "deliveries"))
    page.add(
      Choices(
        "Status", parameter: "status", default: "",
        [
          ("", "all"), ("pending", "pending"), ("delivered", "delivered"), ("failed", "failed"),
          ("discarded", "discarded"),
        ], in: context))
    page.add(DeliveryLine.table(deliveries, caption: "Last deliveries", in: context))
    page.add(
      DataLinks("/v1/webhook-deliveries", context.filters(deliveryFilters), in: context))
    return page
  }

  private static func add(to page: inout Page, in context: PageContext) {
    var form = Form("Add the endpoint", to: address(context), id: "endpoint", in: context)
    form.text(
      "url", "Address", type: "url", isRequired: true, placeholder: "https://example.com/hooks")
    if context.session?.customer == nil, !context.isPortal {
      form.text(
        "customer_id", "Customer", hint: "Leave it empty for the alerts of all customers.")
    }
    form.text(
      "events", "Events", hint: "Types, separated by commas. Leave it empty for all of them.",
      placeholder: "license.limit_exceeded")
    page.add(Folded("Add an endpoint", [form]))
  }

  private static func address(_ context: PageContext) -> String {
    context.basePath + (context.isPortal ? "/portal" : "") + "/webhooks"
  }

  // MARK: One endpoint

  package static func endpoint(
    _ endpoint: EndpointLine, deliveries: [DeliveryLine], next: String?, secret: Secret? = nil,
    notice: Notice? = nil, in context: PageContext
  ) -> Page {
    var page = Page(endpoint.url, place: "/webhooks")
    page.trail = [Link("Webhooks", to: context.url("/webhooks"))]
    if let notice { page.add(notice) }
    if let secret { page.add(secret.shown) }
    var facts = Facts()
    facts.add("Health", endpoint.health(in: context))
    facts.add("Endpoint id", LongID(endpoint.id))
    if !context.isPortal {
      facts.add(
        "Customer",
        endpoint.customer.map {
          LongID($0, to: context.url("/customers/\(PageContext.segment($0))"))
        } ?? Plain("all customers") as any Component)
    }
    facts.add("Events", endpoint.events.isEmpty ? "all" : endpoint.events.joined(separator: ", "))
    if let createdAt = endpoint.createdAt { facts.add("Added", Moment(createdAt, in: context)) }
    page.add(facts)
    if context.may(.webhooksWrite) { actions(endpoint, on: &page, in: context) }
    page.add(Heading("Deliveries", anchor: "deliveries"))
    page.add(
      DeliveryLine.table(deliveries, caption: "Deliveries", next: next, in: context))
    if !context.isPortal {
      page.add(
        DataLinks("/v1/webhook-deliveries", [("endpoint_id", endpoint.id)], in: context))
    }
    return page
  }

  private static func actions(
    _ endpoint: EndpointLine, on page: inout Page, in context: PageContext
  ) {
    let base = address(context) + "/\(PageContext.segment(endpoint.id))"
    var buttons: [any Component] = []
    if endpoint.status == "active" {
      buttons.append(
        Form("Send a test", to: base + "/test", id: "test", isInline: true, in: context))
    } else {
      buttons.append(
        Form("Enable", to: base + "/enable", id: "enable", isInline: true, in: context))
    }
    page.add(Row(buttons))
    var recover = Form("Send it again", to: base + "/recover", id: "recover", in: context)
    recover.text(
      "since", "From (UTC)", type: "datetime-local", isRequired: true)
    recover.text("until", "To (UTC)", type: "datetime-local", hint: "Leave it empty for now.")
    page.add(
      Folded(
        "Send again what it missed",
        [
          Paragraph(
            "Every delivery from this time that failed, was discarded or was never made is sent "
              + "again with its original webhook-id."), recover,
        ]))
    page.add(
      Folded(
        "Change its secret",
        [
          Paragraph(
            "The new secret is shown once. The old one also signs for one more day, so that you can "
              + "switch without a gap."),
          Form("Make a new secret", to: base + "/rotate-secret", id: "rotate", in: context),
        ]))
    var delete = Form(
      "Delete the endpoint", to: base + "/delete", id: "delete", isDanger: true, in: context)
    delete.checkbox("confirm", "I want to delete this endpoint with its deliveries")
    page.add(Folded("Delete it", isDanger: true, [delete]))
  }
}

extension WebhooksPage.Secret {
  var shown: ShownOnce {
    ShownOnce(label: "The secret of \(url). It is not shown again.", value: secret)
  }
}
