import Metering

/// One period of a license and a meter.
package struct PeriodLine: Sendable {
  package var id: String
  package var license: String
  package var customer: String?
  package var meter: String
  package var start: Int64
  package var end: Int64
  package var quantity: Int64
  package var late: Int64
  package var included: Int64?
  package var overage: Int64?
  /// `open`, `due` or `closed`.
  package var status: String

  package init(
    id: String, license: String, customer: String?, meter: String, start: Int64, end: Int64,
    quantity: Int64, late: Int64, included: Int64?, overage: Int64?, status: String
  ) {
    self.id = id
    self.license = license
    self.customer = customer
    self.meter = meter
    self.start = start
    self.end = end
    self.quantity = quantity
    self.late = late
    self.included = included
    self.overage = overage
    self.status = status
  }

  static func table(
    _ periods: [PeriodLine], caption: String, next: String? = nil, showsLicense: Bool = true,
    in context: PageContext
  ) -> Table {
    let showsCustomer = showsLicense && periods.contains { $0.customer != nil }
    var table = Table(
      caption,
      columns: (showsLicense ? ["License"] : []) + ["Period"] + (showsCustomer ? ["Customer"] : [])
        + ["Meter", "Status", "#Used", "#Late", "#Included", "#Overage"],
      empty: Empty(
        "There are no periods here. A period begins with the first event of a license and a meter.")
    )
    for period in periods {
      let dates = DateRange(period.start, period.end, in: context)
      var cells: [any Component] = [dates]
      if showsLicense {
        cells = [
          LongID(
            period.license, to: context.url("/licenses/\(PageContext.segment(period.license))")),
          dates,
        ]
      }
      if showsCustomer {
        cells.append(
          period.customer.map {
            LongID($0, to: context.url("/customers/\(PageContext.segment($0))"))
          } ?? Quiet("not registered") as any Component)
      }
      table.add(
        cells + [
          Plain(period.meter), Badge(status: period.status == "open" ? "running" : period.status),
          Quantity(period.quantity),
          period.late == 0 ? Quiet("0") : Quantity(signed: period.late) as any Component,
          Quantity(period.included, orElse: ""), Quantity(period.overage, orElse: ""),
        ])
    }
    table.continues(at: next, in: context)
    return table
  }
}

/// Which periods are due, what closing them would do, and corrections.
package enum PeriodsPage {
  package struct Finding: Sendable {
    package var code: String
    package var detail: String

    package init(code: String, detail: String) {
      self.code = code
      self.detail = detail
    }
  }

  package struct Preview: Sendable {
    package var endingBefore: Int64
    package var customer: String?
    package var isReady: Bool
    package var blockers: [Finding]
    package var warnings: [Finding]
    package var periods: Int64
    package var meters: [(meter: String, quantity: Int64, overage: Int64)]

    package init(
      endingBefore: Int64, customer: String?, isReady: Bool, blockers: [Finding],
      warnings: [Finding], periods: Int64,
      meters: [(meter: String, quantity: Int64, overage: Int64)]
    ) {
      self.endingBefore = endingBefore
      self.customer = customer
      self.isReady = isReady
      self.blockers = blockers
      self.warnings = warnings
      self.periods = periods
      self.meters = meters
    }
  }

  package struct Adjustment: Sendable {
    package var id: String
    package var license: String
    package var meter: String
    package var kind: String
    package var quantity: Int64
    package var appliesTo: Int64
    package var invoicedIn: Int64?
    package var reason: String
    package var recordedBy: String
    package var recordedAt: Int64
    package var isReversible: Bool

    package init(
      id: String, license: String, meter: String, kind: String, quantity: Int64, appliesTo: Int64,
      invoicedIn: Int64?, reason: String, recordedBy: String, recordedAt: Int64, isReversible: Bool
    ) {
      self.id = id
      self.license = license
      self.meter = meter
      self.kind = kind
      self.quantity = quantity
      self.appliesTo = appliesTo
      self.invoicedIn = invoicedIn
      self.reason = reason
      self.recordedBy = recordedBy
      self.recordedAt = recordedAt
      self.isReversible = isReversible
    }
  }

  package struct Data: Sendable {
    package var periods: [PeriodLine]
    package var next: String?
    package var preview: Preview?
    /// The reason why the address asks for a preview that does not exist.
    package var previewProblem: String?
    /// Nil if they cannot be read.
    package var adjustments: [Adjustment]?

    package init(
      periods: [PeriodLine], next: String?, preview: Preview?, previewProblem: String? = nil,
      adjustments: [Adjustment]?
    ) {
      self.previewProblem = previewProblem
      self.periods = periods
      self.next = next
      self.preview = preview
      self.adjustments = adjustments
    }
  }

  /// The parameters of the address that choose the periods and the adjustments.
  package static let filters = ["license_id", "customer_id"]

  package static func make(_ data: Data, notice: Notice? = nil, in context: PageContext) -> Page {
    var page = Page("Periods", place: "/periods")
    if let notice { page.add(notice) }
    if data.preview != nil || data.previewProblem != nil { add(data, to: &page, in: context) }
    page.add(Heading("Periods", anchor: "periods"))
    page.add(
      Choices(
        "Status", parameter: "status", default: "due",
        [("due", "due"), ("open", "running"), ("closed", "closed")], in: context))
    var filter = Form(
      filter: "Show", fields: filters, id: "periods", in: context)
    filter.text("license_id", "License", value: context.value("license_id") ?? "")
    filter.text("customer_id", "Customer", value: context.value("customer_id") ?? "")
    page.add(filter)
    page.add(PeriodLine.table(data.periods, caption: "Periods", next: data.next, in: context))
    page.add(
      DataLinks(
        "/v1/periods",
        [("status", context.value("status") ?? "due")] + context.filters(filters), in: context))
    adjustments(data, on: &page, in: context)
    return page
  }

  // MARK: Closing

  private static func add(_ data: Data, to page: inout Page, in context: PageContext) {
    page.add(Heading("Close", anchor: "close"))
    var filter = Form(
      filter: "Preview", fields: ["ending_before", "close_customer"], id: "preview", in: context)
    filter.text(
      "ending_before", "Periods that end before or on",
      value: data.preview.map { UTCTime.day($0.endingBefore) } ?? context.value("ending_before")
        ?? "", type: "date")
    filter.text(
      "close_customer", "Only this customer", value: context.value("close_customer") ?? "",
      placeholder: "all customers")
    page.add(filter)
    if let problem = data.previewProblem { page.add(Notice(.bad, problem)) }
    guard let preview = data.preview else { return }
    let isOtherDue = data.periods.contains { $0.status == "due" }
    page.add(verdict(preview, isOtherDue: isOtherDue))
    guard preview.periods > 0 else { return }
    var table = Table(
      "What will be closed", columns: ["Meter", "#Used", "#Overage"],
      empty: Empty("There is no usage."), showsCaption: true)
    for meter in preview.meters {
      table.add([Plain(meter.meter), Quantity(meter.quantity), Quantity(meter.overage)])
    }
    page.add(table)
    guard context.may(.billingWrite) else { return }
    close(preview, on: &page, in: context)
  }

  /// - Parameter isOtherDue: whether the page lists periods that are due, in the preview or not.
  private static func verdict(_ preview: Preview, isOtherDue: Bool) -> Verdict {
    var findings = (preview.blockers + preview.warnings).map {
      Paragraph([Strong(words($0.code) + ": "), Plain($0.detail)])
    }
    if preview.periods == 0 {
      let whose = preview.customer.map { " of \($0)" } ?? ""
      let sentence =
        "Nothing is due: every period\(whose) that ended by \(UTCTime.day(preview.endingBefore)) "
        + "is closed."
      if isOtherDue {
        findings.append(Paragraph("Other periods are due. They are listed below."))
      }
      return Verdict(findings.isEmpty ? .good : .warning, [Plain(sentence)], details: findings)
    }
    let periods = Wording.count(preview.periods, "period")
    if preview.isReady {
      return Verdict(
        preview.warnings.isEmpty ? .good : .warning,
        [
          Plain(
            preview.warnings.isEmpty
              ? "\(periods) can be closed. Everything in them is counted."
              : "\(periods) can be closed, but look at this first.")
        ], details: findings)
    }
    return Verdict(
      .bad, [Plain("\(periods) should not be closed yet.")], details: findings)
  }

  private static func close(_ preview: Preview, on page: inout Page, in context: PageContext) {
    let count = Wording.count(preview.periods, "period")
    var form = Form(
      preview.isReady ? "Close \(count)" : "Close \(count) anyway",
      to: context.basePath + "/periods/close", id: "close", isDanger: !preview.isReady, in: context)
    form.hide("ending_before", UTCTime.brief(preview.endingBefore))
    if let customer = preview.customer { form.hide("customer_id", customer) }
    if preview.isReady {
      page.add(form)
      return
    }
    form.hide("force", "yes")
    form.text(
      "reason", "Reason", isRequired: true,
      hint: "It is kept in the record of the close, with your name.")
    page.add(
      Folded(
        "Close them anyway", isDanger: true,
        [
          Paragraph(
            "A closed period never changes. What is counted later becomes a late adjustment on the "
              + "next invoice."), form,
        ]))
  }

  /// Turns `grace_not_over` into "Grace not over".
  private static func words(_ code: String) -> String {
    code.replacing("_", with: " ").capitalizedFirst
  }

  // MARK: Adjustments

  private static func adjustments(_ data: Data, on page: inout Page, in context: PageContext) {
    guard let adjustments = data.adjustments else { return }
    page.add(Heading("Adjustments", anchor: "adjustments"))
    page.add(
      Paragraph(
        "Events that arrive after a close become late adjustments by themselves. Nothing is edited "
          + "or deleted: a wrong correction is reversed by a counter-entry."))
    let mayWrite = context.may(.billingWrite)
    var table = Table(
      "Adjustments",
      columns: [
        "License", "Meter", "Of the period from", "Kind", "#Quantity", "Reason", "By", "When",
      ]
        + (mayWrite ? ["Reverse"] : []),
      empty: Empty("There are no adjustments."))
    for line in adjustments { table.add(cells(line, mayWrite, in: context)) }
    page.add(table)
    page.add(DataLinks("/v1/adjustments", context.filters(filters), in: context))
    if mayWrite { correction(on: &page, in: context) }
  }

  private static func cells(
    _ line: Adjustment, _ mayWrite: Bool, in context: PageContext
  ) -> [any Component] {
    var cells: [any Component] = [
      LongID(line.license, to: context.url("/licenses/\(PageContext.segment(line.license))")),
      Plain(line.meter), Moment(day: line.appliesTo, in: context), Badge(line.kind, .quiet),
      Quantity(signed: line.quantity), Plain(line.reason), Plain(line.recordedBy),
      Moment(line.recordedAt, in: context),
    ]
    guard mayWrite else { return cells }
    if line.isReversible {
      cells.append(
        Form(
          "Reverse",
          to: context.basePath + "/adjustments/\(PageContext.segment(line.id))/reverse",
          id: "reverse-\(line.id)", isInline: true, in: context))
    } else {
      cells.append(Plain(""))
    }
    return cells
  }

  private static func correction(on page: inout Page, in context: PageContext) {
    var form = Form(
      "Record the correction", to: context.basePath + "/adjustments", id: "adjust", in: context)
    form.text(
      "license_id", "License", value: context.value("license_id") ?? "", isRequired: true)
    form.text("meter", "Meter", value: "api_calls", isRequired: true)
    form.text(
      "applies_to_period_start", "First day of the period", type: "date", isRequired: true)
    form.text(
      "quantity", "Quantity", type: "number", isRequired: true,
      hint: "Negative for a credit.")
    form.text("reason", "Reason", isRequired: true, hint: "It is printed on the statement.")
    page.add(Folded("Record a correction", [form]))
  }
}
