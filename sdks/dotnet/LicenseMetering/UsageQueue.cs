using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

namespace LicenseMetering
{
    /// <summary>What was used.</summary>
    public sealed class Usage
    {
        public Usage(string meter, long quantity = 1)
        {
            Meter = meter;
            Quantity = quantity;
        }

        public string Meter { get; }

        public long Quantity { get; }

        /// <summary>Whose it is; null: the client's, where its license key is an id.</summary>
        public string LicenseId { get; set; }

        public string Domain { get; set; }

        public string Feature { get; set; }
    }

    /// <summary>What became of the usage that was recorded.</summary>
    public struct UsageStatistics
    {
        public long Accepted { get; internal set; }

        public long Sent { get; internal set; }

        public long Rejected { get; internal set; }

        public long Dropped { get; internal set; }

        public long Pending { get; internal set; }
    }

    /// <summary>Sends events in batches; a retry has the same ids, so that each counts once.</summary>
    internal sealed class UsageQueue
    {
        private const int Batch = 500;
        private const long MaximumQuantity = 1000000000;
        private static readonly TimeSpan MaximumDelay = TimeSpan.FromMinutes(1);
        private static readonly Regex MeterPattern = new Regex(@"^[a-z][a-z0-9_]{0,63}\z", RegexOptions.CultureInvariant);

        /// <summary>The service will never take such a batch, however often it comes.</summary>
        private static readonly string[] RefusedForGood = { "http_400", "http_404", "http_413", "http_415", "http_422" };

        private readonly int maximum;
        private readonly Action<string> report;
        private readonly Func<IReadOnlyList<string>, Deadline, Task<int>> send;
        private readonly string source = "sdk/dotnet/" + Encoded.RandomHex();
        private readonly object guard = new object();
        private readonly List<string> events = new List<string>();
        private readonly SemaphoreSlim wake = new SemaphoreSlim(0, 1);
        private readonly CancellationTokenSource stop = new CancellationTokenSource();
        private UsageStatistics statistics = default(UsageStatistics);
        private int failures;
        private bool isRunning, isClosed;
        private Task<bool> sending;

        /// <summary>The function sends a batch and says how many events were rejected.</summary>
        public UsageQueue(int maximum, Action<string> report, Func<IReadOnlyList<string>, Deadline, Task<int>> send)
        {
            this.maximum = maximum;
            this.report = report;
            this.send = send;
        }

        public UsageStatistics Statistics
        {
            get
            {
                lock (guard)
                {
                    var copy = statistics;
                    copy.Pending = events.Count;
                    return copy;
                }
            }
        }

        public bool Record(Usage usage, string licenseId, long now)
        {
            var isGood = usage != null && licenseId != null && Json.IsPlain(licenseId, 512) && usage.Meter != null &&
                MeterPattern.IsMatch(usage.Meter) && usage.Quantity >= 0 && usage.Quantity <= MaximumQuantity &&
                IsGood(usage.Domain) && IsGood(usage.Feature);
            var isTaken = false;
            lock (guard)
            {
                isTaken = isGood && !isClosed && events.Count < maximum;
                if (isTaken)
                {
                    events.Add(Event(usage, licenseId, now));
                    statistics.Accepted++;
                    if (!isRunning)
                    {
                        isRunning = true;
                        _ = Task.Run(RunAsync);
                    }
                    if (events.Count == Batch && wake.CurrentCount == 0)
                    {
                        wake.Release();
                    }
                }
                else
                {
                    statistics.Dropped++;
                }
            }
            if (!isTaken)
            {
                report(isGood ? "usage_dropped" : "usage_invalid");
            }
            return isTaken;
        }

        /// <summary>Sends what is queued now; whether all of it went out by the deadline.</summary>
        public async Task<bool> FlushAsync(Deadline deadline)
        {
            while (!deadline.IsOver && Statistics.Pending > 0)
            {
                if (!await DeliverAsync(deadline).ConfigureAwait(false) && !deadline.IsOver)
                {
                    await Task.Delay((int)Math.Min(200, deadline.Left.TotalMilliseconds + 1)).ConfigureAwait(false);
                }
            }
            return Statistics.Pending == 0;
        }

        /// <summary>As FlushAsync, and takes no usage any more. What is left is dropped and counted.</summary>
        public async Task CloseAsync(Deadline deadline)
        {
            await FlushAsync(deadline).ConfigureAwait(false);
            int left;
            lock (guard)
            {
                left = events.Count;
                isClosed = true;
                statistics.Dropped += left;
                events.Clear();
            }
            stop.Cancel();
            if (left > 0)
            {
                report("usage_dropped");
            }
        }

        private static bool IsGood(string text) =>
            text == null || (Json.Count(text) >= 0 && Json.Count(text) <= 1024 && text.IndexOf('\0') < 0);

        private string Event(Usage usage, string licenseId, long now)
        {
            var head = Json.Object(
                "specversion", "1.0", "id", Guid.NewGuid().ToString(), "source", source, "type", "license.usage.recorded",
                "subject", licenseId, "time", Encoded.Time(now));
            var text = new StringBuilder(head, 0, head.Length - 1, head.Length + 64).Append(",\"data\":{\"meter\":");
            Json.Quote(text, usage.Meter).Append(",\"quantity\":").Append(usage.Quantity.ToString(CultureInfo.InvariantCulture));
            if (!string.IsNullOrEmpty(usage.Domain))
            {
                Json.Quote(text.Append(",\"domain\":"), usage.Domain);
            }
            if (!string.IsNullOrEmpty(usage.Feature))
            {
                Json.Quote(text.Append(",\"feature\":"), usage.Feature);
            }
            return text.Append("}}").ToString();
        }

        private async Task RunAsync()
        {
            while (true)
            {
                double seconds;
                lock (guard)
                {
                    seconds = Math.Min(1 << failures, MaximumDelay.TotalSeconds);
                }
                try
                {
                    await wake.WaitAsync(TimeSpan.FromSeconds(seconds), stop.Token).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    return;
                }
                await DeliverAsync(new Deadline(MaximumDelay)).ConfigureAwait(false);
            }
        }

        /// <summary>
        /// Sends one batch, whose events stay in the queue until it is known what became of them. One at a time; whether that is
        /// known.
        /// </summary>
        private async Task<bool> DeliverAsync(Deadline deadline)
        {
            Task<bool> other = null;
            var own = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            List<string> batch = null;
            lock (guard)
            {
                other = sending;
                if (other == null)
                {
                    batch = events.Take(Batch).ToList();
                    sending = batch.Count > 0 ? own.Task : null;
                }
            }
            if (other != null)
            {
                await Task.WhenAny(other, Task.Delay(deadline.IsOver ? TimeSpan.Zero : deadline.Left)).ConfigureAwait(false);
                return true;
            }
            if (batch.Count == 0)
            {
                return true;
            }
            var rejected = 0;
            string problem = null;
            try
            {
                rejected = await send(batch, deadline).ConfigureAwait(false);
            }
            catch (NoAnswer failure)
            {
                problem = failure.Problem;
            }
            var isKnown = Settle(batch.Count, rejected, ref problem);
            own.SetResult(isKnown);
            if (problem != null)
            {
                report(problem);
            }
            return isKnown;
        }

        /// <summary>Changes the problem into what is to be reported.</summary>
        private bool Settle(int count, int rejected, ref string problem)
        {
            lock (guard)
            {
                sending = null;
                if (problem != null && !RefusedForGood.Contains(problem))
                {
                    failures = Math.Min(failures + 1, 6);
                    return false;
                }
                failures = 0;
                if (isClosed)
                {
                    problem = null;
                    return true; // It was counted as dropped, and may count all the same.
                }
                events.RemoveRange(0, count);
                if (problem != null)
                {
                    statistics.Dropped += count;
                    problem = "usage_dropped";
                    return true;
                }
                statistics.Sent += count - rejected;
                statistics.Rejected += rejected;
                problem = rejected > 0 ? "usage_rejected" : null;
                return true;
            }
        }
    }
}
