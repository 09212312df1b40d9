create table usage_hour_default partition of usage_hour default with (fillfactor = 70);
