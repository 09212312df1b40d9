create table usage_day_default partition of usage_day default with (fillfactor = 70);
